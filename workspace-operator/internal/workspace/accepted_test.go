// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/workspace-operator/internal/workspace"
)

// What the released build left behind is still an object of the schema of this one, status and all: an upgrade of the
// definitions must not make a Workspace unwritable.
func TestWhatTheReleasedBuildWroteIsAccepted(t *testing.T) {
	files, err := filepath.Glob("testdata/upgrade/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	namespace := newNamespace(t)
	for _, file := range files {
		for _, obj := range workspace.ReadObjects(t, file) {
			switch obj.(type) {
			case *kaitov1alpha1.Workspace, *karpenterv1alpha5.Machine:
			default:
				continue // the API server's own kinds keep their promise themselves
			}
			obj.SetUID("")
			obj.SetFinalizers(nil)
			obj.SetOwnerReferences([]metav1.OwnerReference{})
			if obj.GetNamespace() != "" {
				obj.SetNamespace(namespace)
			}
			written := obj.DeepCopyObject().(client.Object)
			require.NoError(t, shared.client.Create(t.Context(), written), file)
			obj.SetResourceVersion(written.GetResourceVersion())
			require.NoError(t, shared.client.Status().Update(t.Context(), obj), file)
			if w, ok := obj.(*kaitov1alpha1.Workspace); ok {
				if w.Inference == nil || w.Inference.Template == nil {
					assert.NotEmpty(t, w.Status.Plan.Memory, "nothing of the status is pruned")
				}
				assert.Equal(t, kaitov1alpha1.StateRunning, w.Status.State)
			}
			require.NoError(t, shared.client.Delete(t.Context(), obj))
		}
	}
}
