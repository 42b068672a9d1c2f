// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// serving is a plain inference Workspace.
func serving(namespace, name string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Resource:   kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4"},
		Inference:  &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
	}
}

// eventuallyMachine waits for the one Machine that the operator asks for.
func eventuallyMachine(t *testing.T, w *kaitov1alpha1.Workspace) *karpenterv1alpha5.Machine {
	t.Helper()
	list := &karpenterv1alpha5.MachineList{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(
			c, shared.client.List(t.Context(), list, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceUID: string(w.UID)}),
		)
		assert.Len(c, list.Items, 1)
	}, eventually.Long, eventually.Tick)
	return &list.Items[0]
}

// launch plays the provisioner: the Machine's Node joins with its GPU, and the Machine becomes Ready.
func launch(t *testing.T, m *karpenterv1alpha5.Machine) *corev1.Node {
	t.Helper()
	n := join(t, "aks-"+m.Name, m.Labels, m.Spec.Taints)
	say(t, m, n.Name, corev1.ConditionTrue, "", "")
	return n
}

func join(t *testing.T, name string, labels map[string]string, taints []corev1.Taint) *corev1.Node {
	t.Helper()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{corev1.LabelHostname: name},
			Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
		},
		Spec: corev1.NodeSpec{Taints: taints},
	}
	for k, v := range labels {
		n.Labels[k] = v
	}
	create(t, n)
	t.Cleanup(func() { _ = shared.client.Delete(context.Background(), n) }) // a test may have deleted it
	before := n.DeepCopy()
	n.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("96"),
		corev1.ResourceMemory:           resource.MustParse("880Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("2Ti"),
		kaitov1alpha1.ResourceNvidiaGPU: resource.MustParse("1"),
	}
	n.Status.Allocatable = n.Status.Capacity
	require.NoError(t, shared.client.Status().Patch(t.Context(), n, client.MergeFrom(before)))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(n), n))
		ready := false
		for _, condition := range n.Status.Conditions {
			ready = ready || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		}
		assert.True(c, ready)
	}, eventually.Long, eventually.Tick)
	return n
}

// say writes a Machine's conditions, all of the same status.
func say(
	t *testing.T, m *karpenterv1alpha5.Machine, node string, status corev1.ConditionStatus, reason, message string,
) {
	t.Helper()
	before := m.DeepCopy()
	m.Status.NodeName, m.Status.Conditions = node, nil
	for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
		m.Status.Conditions = append(
			m.Status.Conditions,
			karpenterv1alpha5.Condition{
				Type:               c,
				Status:             status,
				Reason:             reason,
				Message:            message,
				LastTransitionTime: metav1.Now(),
			},
		)
	}
	require.NoError(t, shared.client.Status().Patch(t.Context(), m, client.MergeFrom(before)))
}

// ready brings a Workspace to where it answers. What it leaves goes with the test.
func ready(t *testing.T, namespace, name string) *kaitov1alpha1.Workspace {
	t.Helper()
	w := serving(namespace, name)
	create(t, w)
	release(t, w)
	launch(t, eventuallyMachine(t, w))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), w))
		assert.True(c, meta.IsStatusConditionTrue(w.Status.Conditions, kaitov1alpha1.ConditionReady))
	}, eventually.Long, eventually.Tick)
	return w
}

// release deletes a Workspace at the end, and waits until its claims are gone: nodes that are free would be taken by
// another test's.
func release(t *testing.T, w *kaitov1alpha1.Workspace) {
	t.Cleanup(func() {
		ctx := context.Background()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			err := shared.client.Delete(ctx, w.DeepCopy())
			assert.NoError(c, client.IgnoreNotFound(err))
			assert.Error(c, err, "it is still there")
		}, eventually.Long, eventually.Tick)
	})
}
