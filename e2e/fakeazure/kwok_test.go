// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// kwokCluster is a fake cloud whose machines become Nodes of a real API server.
type kwokCluster struct {
	*azure
	nodes kubernetes.Interface
}

func (h *kwokCluster) node(pool string) *corev1.Node {
	h.t.Helper()
	list, err := h.nodes.CoreV1().Nodes().List(h.t.Context(), metav1.ListOptions{LabelSelector: "agentpool=" + pool})
	require.NoError(h.t, err)
	if len(list.Items) != 1 {
		return nil
	}
	return &list.Items[0]
}

// becomes waits until the pool's only Node meets a condition.
func (h *kwokCluster) becomes(t *testing.T, pool string, as func(*corev1.Node) bool) *corev1.Node {
	t.Helper()
	require.Eventually(t, func() bool {
		n := h.node(pool)
		return n != nil && as(n)
	}, eventually.Long, eventually.Tick)
	return h.node(pool)
}

func ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func gpus(n *corev1.Node) int64 {
	q := n.Status.Allocatable["nvidia.com/gpu"]
	return q.Value()
}

func TestMachinesBecomeNodesOfARealCluster(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{KWOK: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Stop()) })
	client, err := kubernetes.NewForConfig(c.Config())
	require.NoError(t, err)
	h := &kwokCluster{nodes: client, azure: newAzure(t, func(o *fakeazure.Options) { o.Nodes = fakeazure.NewKWOK(client) })}

	t.Run("as AKS labels, taints and fills them, and they go with their machine", func(t *testing.T) {
		body := spotPool("Standard_NC48ads_A100_v4", 1)
		body.Properties.AvailabilityZones = []*string{ptr.To("2")}
		h.mustPut("spot1", body)
		n := h.becomes(t, "spot1", ready)
		assert.Regexp(t, `^aks-spot1-\d{8}-vmss[0-9a-z]{6}$`, n.Name)
		assert.Equal(t, h.server.State().Pools[0].Machines[0], n.Spec.ProviderID)
		assert.Regexp(
			t,
			`^azure:///subscriptions/[-0-9a-f]{36}/resourceGroups/mc_kaito-rg_kaito_eastus/providers/Microsoft.Compute/virtualMachineScaleSets/aks-spot1-\d{8}-vmss/virtualMachines/0$`,
			n.Spec.ProviderID,
		)
		for key, value := range map[string]string{
			"node.kubernetes.io/instance-type": "Standard_NC48ads_A100_v4", "topology.kubernetes.io/region": "eastus", "topology.kubernetes.io/zone": "eastus-2",
			"kubernetes.azure.com/scalesetpriority": "spot", "kubernetes.azure.com/agentpool": "spot1", "accelerator": "nvidia", "team": "ml",
			"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": n.Name,
		} {
			assert.Equal(t, value, n.Labels[key], key)
		}
		assert.Contains(t, n.Spec.Taints, corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule})
		assert.EqualValues(t, 2, gpus(n))
		assert.Equal(t, "48", n.Status.Capacity.Cpu().String())
		assert.Equal(t, "47260m", n.Status.Allocatable.Cpu().String(), "AKS keeps 740 millicores of 48 cores for itself")

		h.server.ChangeNode(fakeazure.NodeChange{ProviderID: n.Spec.ProviderID, NotReady: true, NoGPU: true})
		h.becomes(t, "spot1", func(n *corev1.Node) bool { return !ready(n) && gpus(n) == 0 })
		h.server.ChangeNode(fakeazure.NodeChange{ProviderID: n.Spec.ProviderID})
		h.becomes(t, "spot1", func(n *corev1.Node) bool { return ready(n) && gpus(n) == 2 })
		h.server.Evict(n.Spec.ProviderID)
		require.Eventually(t, func() bool { return h.node("spot1") == nil }, eventually.Short, eventually.Tick)
	})
	t.Run("not Ready when their machine is gone and a finalizer keeps them", func(t *testing.T) {
		h.mustPut("kept", gpuPool(a100, 1))
		n := h.becomes(t, "kept", ready)
		patch := func(finalizers string) {
			_, err := h.nodes.CoreV1().
				Nodes().
				Patch(t.Context(), n.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":`+finalizers+`}}`), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		patch(`["example.com/keep"]`)
		h.server.Evict(n.Spec.ProviderID)
		h.becomes(t, "kept", func(n *corev1.Node) bool { return !n.DeletionTimestamp.IsZero() && !ready(n) })
		patch("null")
		require.Eventually(t, func() bool { return h.node("kept") == nil }, eventually.Long, eventually.Tick)
	})
	t.Run("without GPUs when the pool installs no driver", func(t *testing.T) {
		body := gpuPool(a100, 1)
		body.Properties.GpuProfile = &armcontainerservice.GPUProfile{Driver: ptr.To(armcontainerservice.GPUDriverNone)}
		h.mustPut("bare", body)
		assert.Zero(t, gpus(h.becomes(t, "bare", ready)))
	})
	t.Run("NotReady by a fault", func(t *testing.T) {
		h.server.AddFault(fakeazure.Fault{Pool: "sick", NotReady: true})
		h.mustPut("sick", gpuPool(a100, 1))
		n := h.becomes(t, "sick", func(n *corev1.Node) bool { return len(n.Status.Conditions) > 0 })
		assert.False(t, ready(n))
	})
	t.Run("never by a fault, while ARM lists the machine", func(t *testing.T) {
		h.server.AddFault(fakeazure.Fault{Pool: "lost", NeverJoins: true})
		h.mustPut("lost", gpuPool(a100, 1))
		h.mustPut("after", gpuPool(a100, 1)) // when its Node exists, the Node of the earlier one would exist, too
		h.becomes(t, "after", ready)
		h.clock.Step(time.Hour)
		assert.Nil(t, h.node("lost"))
		assert.Len(t, h.names("lost"), 1)
	})
}
