// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

const size = "Standard_NC24ads_A100_v4"

func inference(name, preset string, nodes int32) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault},
		Resource: kaitov1alpha1.ResourceSpec{
			InstanceType:  size,
			Count:         &nodes,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		},
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: preset}},
	}
}

// Each story continues with the state of the previous one, because creating a cluster takes longer than a story.
func TestOnKind(t *testing.T) {
	if !*wanted {
		t.Skip("needs Docker and takes minutes: make e2e-kind")
	}
	w := start(t)
	const name = "phi"

	t.Run("a Workspace serves from real pods on a machine that joined for it", func(t *testing.T) {
		require.NoError(t, w.client.Create(t.Context(), inference(name, "phi-4-mini-instruct", 1)))
		w.ready(t, name, served)
		assert.JSONEq(t, `{"Result":"[phi] You asked: What is Kaito?"}`, w.ask(t, name, "What is Kaito?"))
		t.Log("\n" + w.kubectl(t, "get", "workspaces,machines,nodes,pods,services", "-o", "wide"))
	})

	t.Run("a machine that is lost while it serves is replaced, and the answer comes from another", func(t *testing.T) {
		lost := machines(t, w)[0]
		w.azure.ChangeNode(fakeazure.NodeChange{ProviderID: lost.Status.ProviderID, NotReady: true})
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			for _, machine := range machines(t, w) {
				assert.NotEqual(c, lost.UID, machine.UID)
			}
			workspace := &kaitov1alpha1.Workspace{}
			require.NoError(
				c, w.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: name}, workspace),
			)
		}, replaced, look)
		w.ready(t, name, replaced)
		assert.JSONEq(t, `{"Result":"[phi] You asked: Still there?"}`, w.ask(t, name, "Still there?"))
	})

	t.Run("deleting it leaves nothing", func(t *testing.T) {
		require.NoError(t, w.client.Delete(t.Context(), inference(name, "", 1)))
		w.gone(t)
	})

	t.Run("the quick start from the hub to the answer of the tuned model", func(t *testing.T) {
		w.admit(t, metav1.NamespaceDefault)
		w.quickStart(t)
		require.NoError(t, w.client.Delete(t.Context(), inference(quickStartName, "", 1)))
		w.gone(t)
	})

	t.Run("a TuningJob needs no Workspace, and resumes after an eviction", w.alone)

	t.Run(
		"the provisioner is killed while two machines are on their way, and a model of two nodes serves",
		func(t *testing.T) {
			const wide = "wide"
			require.NoError(t, w.client.Create(t.Context(), inference(wide, "falcon-40b-instruct", 2)))
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				assert.NotEmpty(c, w.azure.State().Pools)
			}, eventually.Long, eventually.StoryTick)
			require.NoError(
				t,
				w.client.DeleteAllOf(
					t.Context(), &corev1.Pod{}, client.InNamespace("gpu-provisioner-system"), client.GracePeriodSeconds(0),
				),
			)
			w.ready(t, wide, replaced)
			assert.Len(t, machines(t, w), 2)
			assert.Len(t, w.azure.State().Pools, 1, "the two share a pool")
			assert.Contains(t, w.ask(t, wide, "How many are you?"), "How many are you?")
			w.ranksRestart(t, wide)
			require.NoError(t, w.client.Delete(t.Context(), inference(wide, "", 2)))
			w.gone(t)
		},
	)

	// The last one: what has no quota is not asked for again soon.
	t.Run("an exceeded quota is reported with its numbers", func(t *testing.T) {
		const poor = "poor"
		w.azure.SetQuota(map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 10}})
		require.NoError(t, w.client.Create(t.Context(), inference(poor, "phi-4-mini-instruct", 1)))
		workspace := &kaitov1alpha1.Workspace{}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(
				c, w.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: poor}, workspace),
			)
			ready := conditions.Get(workspace, kaitov1alpha1.ConditionReady)
			if assert.NotNil(c, ready) {
				assert.Equal(c, kaitov1alpha1.ReasonAttemptsExhausted, ready.Reason)
				assert.Contains(c, ready.Message, "QuotaExceeded")
				assert.Contains(c, ready.Message, "needs 24 vCPUs of StandardNCADSA100v4Family, has 10 of 10 left")
			}
		}, served, look)
		t.Log(conditions.Get(workspace, kaitov1alpha1.ConditionReady).Message)
		assert.Empty(t, w.azure.State().Pools, "nothing was bought")
		require.NoError(t, w.client.Delete(t.Context(), inference(poor, "", 1)))
		w.gone(t)
	})
}

func machines(t *testing.T, w *world) []karpenterv1alpha5.Machine {
	t.Helper()
	list := &karpenterv1alpha5.MachineList{}
	require.NoError(t, w.client.List(t.Context(), list))
	return list.Items
}
