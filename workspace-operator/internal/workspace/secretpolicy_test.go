// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/conditions"
	"kaito.sh/workspace-operator/internal/engine/vllm"
)

// unguarded is the question for a Secret when the policy does not hold.
type unguarded struct{}

func (unguarded) Exists(context.Context, client.ObjectKey) (exists, known bool, err error) {
	return false, false, ErrUnguarded
}

func TestNoNodeIsAskedForWithoutThePolicy(t *testing.T) {
	t.Parallel()
	w := &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: "guarded", Namespace: "ns", UID: "uid"},
		Resource:   kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4"},
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{
			Name: "phi-4-mini-instruct", PresetOptions: &kaitov1alpha1.PresetOptions{ModelAccessSecret: "token"},
		}},
	}
	store := upgradeStore(t, w)
	c, err := catalog.Load()
	require.NoError(t, err)
	r, err := New(Config{
		Client: store, Live: store, Kinds: allServed{}, Secrets: unguarded{}, Catalog: c, Engine: vllm.Engine{},
		Events: events.NewFakeRecorder(10), Clock: upgradeClock(), Options: DefaultOptions(),
	})
	require.NoError(t, err)
	result, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(w)})
	require.NoError(t, err)
	assert.Positive(t, result.RequeueAfter, "it is looked at again")
	require.NoError(t, store.Get(t.Context(), client.ObjectKeyFromObject(w), w))
	stalled := conditions.Get(w, conditions.Stalled)
	require.NotNil(t, stalled)
	assert.Equal(t, kaitov1alpha1.ReasonSecretPolicyMissing, stalled.Reason, stalled.Message)
	assert.Equal(t, metav1.ConditionTrue, stalled.Status)
	var machines karpenterv1alpha5.MachineList
	require.NoError(t, store.List(t.Context(), &machines))
	assert.Empty(t, machines.Items)
}
