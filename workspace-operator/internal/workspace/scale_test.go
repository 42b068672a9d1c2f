// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

// templated serves a pod template of its own, one replica a node.
func templated(namespace string, count int32) *kaitov1alpha1.Workspace {
	w := inferenceWorkspace(namespace, "model")
	w.Resource.Count = ptr.To(count)
	w.Inference = &kaitov1alpha1.InferenceSpec{
		Template: embedded.NewPodTemplate(corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "server", Image: "example.com/server:1"}},
		}}),
	}
	return w
}

func isReady(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
	hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	assert.Equal(c, w.Generation, w.Status.ObservedGeneration)
}

func TestCountScalesNodesUpAndDown(t *testing.T) {
	start(t, options())
	w := templated(newNamespace(t), 1)
	create(t, w)
	first := eventuallyMachines(t, w, 1)[0]
	launch(t, &first, "1")
	eventuallyWorkspace(t, w, isReady)

	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.Count = ptr.To[int32](2) })
	var second karpenterv1alpha5.Machine
	for _, m := range eventuallyMachines(t, w, 2) {
		if m.Name != first.Name {
			second = m
		}
	}
	launch(t, &second, "1")
	got := eventuallyWorkspace(t, w, isReady)
	assert.Len(t, got.Status.WorkerNodes, 2)
	d := &appsv1.Deployment{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), d))
	assert.EqualValues(t, 2, *d.Spec.Replicas)

	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.Count = ptr.To[int32](1) })
	left := eventuallyMachines(t, w, 1)[0]
	assert.Equal(t, first.Name, left.Name, "the last one in goes first")
	got = eventuallyWorkspace(t, w, isReady)
	assert.Len(t, got.Status.WorkerNodes, 1)
	assert.Empty(t, got.Status.Attempts, "a node that is given back has not failed")
}

func TestAvailableNodeIsKeptWhileAFailedOneRests(t *testing.T) {
	start(t, options())
	w := templated(newNamespace(t), 2)
	create(t, w)
	machines := eventuallyMachines(t, w, 2)
	launch(t, &machines[0], "1")
	setMachine(t, &machines[1], "", "AllocationFailed", "no capacity")
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		require.Len(c, w.Status.Attempts, 1)
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonAttemptsExhausted)
	})
	assert.Len(t, got.Status.WorkerNodes, 1, "the node that is there is kept meanwhile")
	eventually.Never(t, func() bool { return len(machinesOf(t, w)) > 1 }, "the size is asked for again while it rests")
}

func TestAnotherSizeReplacesTheNodes(t *testing.T) {
	start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "model"))
	old := eventuallyMachines(t, w, 1)[0]
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { w.Resource.InstanceType = "Standard_NC40ads_H100_v5" })
	var next karpenterv1alpha5.Machine
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		ms := machinesOf(c, w)
		require.Len(c, ms, 1)
		require.NotEqual(c, old.Name, ms[0].Name)
		next = ms[0]
	}, eventually.Long, eventually.Tick)
	assert.Equal(t, []string{"Standard_NC40ads_H100_v5"}, next.Spec.Requirements[0].Values)
	launch(t, &next, "1")
	got := eventuallyWorkspace(t, w, isReady)
	assert.Equal(t, "Standard_NC40ads_H100_v5", got.Status.Plan.InstanceType)
	assert.Empty(t, got.Status.Attempts)
}
