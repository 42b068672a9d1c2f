// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
)

// install installs operators from other folders than their config/default, and runs them. A stack that ends tells of
// any request that the roles of such a folder do not allow.
func install(t *testing.T, s *stack.Stack, folders map[stack.Operator]string) {
	t.Helper()
	for _, o := range stack.Operators {
		if folder, ok := folders[o]; ok {
			require.NoError(t, s.InstallFrom(t.Context(), o, folder))
			require.NoError(t, s.Run(t.Context(), o))
		}
	}
}

// TestNamespacedOperatorsServeOnlyTheirNamespace runs both operators with Roles: they tune and serve in
// their own namespace, touch nothing in another, and ask for nothing that they may not have.
func TestNamespacedOperatorsServeOnlyTheirNamespace(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{}})
	const ours = "kaito" // as the overlays have it
	install(t, s, map[stack.Operator]string{
		stack.WorkspaceOperator: "workspace-operator/config/overlays/namespaced",
		stack.TuningOperator:    "tuning-operator/config/overlays/namespaced",
	})
	bringNode(t, s, "serves", "Standard_NC24ads_A100_v4", 1, map[string]string{"app": "served"})
	bringNode(t, s, "tunes", "Standard_NC6s_v3", 1, map[string]string{"team": "blue"})
	served, job := inference("served"), tuningJob(s)
	require.NoError(t, s.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: stacktest.PushSecret, Namespace: ours}, Type: corev1.SecretTypeDockerConfigJson,
		StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`},
	}))
	ignored := []client.Object{inference("served"), tuningJob(s)}
	for _, o := range ignored { // created first, so that they would be reconciled before the others
		require.NoError(t, s.Client.Create(t.Context(), o))
	}
	for _, o := range []client.Object{served, job} {
		o.SetNamespace(ours)
		require.NoError(t, s.Client.Create(t.Context(), o))
	}
	eventuallyGet(t, s, served, func(c *assert.CollectT) { stacktest.Ready(c, served) })
	eventuallyGet(t, s, job, func(c *assert.CollectT) {
		assert.True(
			c, meta.IsStatusConditionTrue(job.Status.Conditions, tuningv1alpha1.ConditionSucceeded), "%+v", job.Status,
		)
	})
	for _, o := range ignored {
		require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o))
		assert.Empty(t, o.GetFinalizers(), "%T in another namespace", o)
		assert.Len(t, o.GetManagedFields(), 1, "%T in another namespace has been written to", o)
	}
	require.NoError(t, s.Client.Delete(t.Context(), served))
	eventuallyGone(t, s, served)
}

// TestWhoBringsNodesNeedsNoRightToAskForThem: Machines and NodeClaims are served here, and never even looked at.
func TestWhoBringsNodesNeedsNoRightToAskForThem(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{}})
	require.NoError(t, s.InstallCRDs(t.Context(), stack.GPUProvisioner))
	install(t, s, map[stack.Operator]string{stack.WorkspaceOperator: "workspace-operator/config/overlays/byo"})
	bringNode(t, s, "mine", "Standard_NC24ads_A100_v4", 1, map[string]string{"app": "served"})
	served, lacking := inference("served"), inference("lacking")
	for _, w := range []*kaitov1alpha1.Workspace{served, lacking} {
		require.NoError(t, s.Client.Create(t.Context(), w))
	}
	got := stacktest.EventuallyWorkspace(t, s, served.Name, stacktest.Ready)
	assert.Equal(t, []string{"mine"}, got.Status.WorkerNodes)
	stacktest.EventuallyWorkspace(t, s, lacking.Name, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		stacktest.Says(kaitov1alpha1.ReasonNodeAPIMissing)(c, w)
		assert.True(c, conditions.IsTrue(w, conditions.Stalled))
	})
	for _, w := range []*kaitov1alpha1.Workspace{served, lacking} {
		stacktest.Delete(t, s, w)
	}
	stacktest.NothingLeft(t, s, "Node /mine")
}

// TestUnderKAITOsNamesAWorkspaceUsesANodeClaim runs the operators as one who comes from KAITO knows them.
func TestUnderKAITOsNamesAWorkspaceUsesANodeClaim(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{}})
	const folder = "config/overlays/kaito-compat/"
	install(t, s, map[stack.Operator]string{
		stack.WorkspaceOperator: folder + "workspace-operator",
		stack.TuningOperator:    folder + "tuning-operator",
		stack.GPUProvisioner:    folder + "gpu-provisioner",
	})
	w := inference("compatible")
	require.NoError(t, s.Client.Create(t.Context(), w))
	stacktest.EventuallyWorkspace(t, s, w.Name, stacktest.Ready)
	assert.Len(t, objects(t, s, "karpenter.sh/v1", "NodeClaim"), 1)
	assert.Empty(t, objects(t, s, "karpenter.sh/v1alpha5", "Machine"))
	stacktest.Delete(t, s, w)
	eventuallyGone(t, s, w)
}
