// SPDX-License-Identifier: Apache-2.0

package provisioner_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

var allocationFailed = &fakeazure.Failure{
	Code:    "AllocationFailed",
	Message: "Allocation failed. We do not have sufficient capacity for the requested VM size in this region.",
}

func TestPartialAllocationFailureLaunchesTheRest(t *testing.T) {
	w := newWorld(t, nil, together)
	w.azure.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Async: true, Fails: 1, Error: allocationFailed})
	w.ask("ws1", "ws2", "ws3")
	var ready, failed []string
	w.eventually("two are Ready and one has failed", func() bool {
		ready, failed = nil, nil
		for _, name := range []string{"ws1", "ws2", "ws3"} {
			switch {
			case w.condition(name, karpenterv1alpha5.ConditionReady).Status == corev1.ConditionTrue:
				ready = append(ready, name)
			case w.condition(name, karpenterv1alpha5.ConditionMachineLaunched).Reason == "CapacityUnavailable":
				failed = append(failed, name)
			}
		}
		return len(ready) == 2 && len(failed) == 1
	})
	w.eventually("the pool's count is set back", func() bool {
		pools := w.azure.State().Pools
		return len(pools) == 1 && pools[0].Count == 2
	})
	writes := len(w.azure.State().Writes)
	w.ask("ws4")
	w.fails("ws4", karpenterv1alpha5.ConditionMachineLaunched, "CapacityUnavailable")
	assert.Len(t, w.azure.State().Writes, writes, "the offering is unavailable, so Azure is not called again")
	shown := &corev1.ConfigMap{}
	require.NoError(
		t, w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "gpu-provisioner-offerings"}, shown),
	)
	assert.Contains(t, shown.Data, "offering."+a100+".regional.on-demand")
	w.crash()
	w.start()
	w.ask("ws5")
	w.fails("ws5", karpenterv1alpha5.ConditionMachineLaunched, "CapacityUnavailable")
	assert.Len(t, w.azure.State().Writes, writes, "by the next process, too")
	for _, name := range ready {
		assert.Equal(t, corev1.ConditionTrue, w.condition(name, karpenterv1alpha5.ConditionReady).Status)
	}
}

func TestLostResponseOfAWriteIsNotRepeated(t *testing.T) {
	w := newWorld(t, nil, together)
	w.azure.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Drop: fakeazure.DropAfter})
	w.ask("ws1", "ws2")
	w.ready("ws1", "ws2")
	state := w.azure.State()
	require.Len(t, state.Pools, 1)
	assert.Len(t, state.Pools[0].Machines, 2)
	w.azure.AddFault(fakeazure.Fault{Verb: "deletePool", Times: 1, Drop: fakeazure.DropAfter})
	w.release("ws1", "ws2")
	w.away("ws1", "ws2")
	w.empty()
}

func TestAzureThatFailsNowAndThenIsAskedAgain(t *testing.T) {
	w := newWorld(t, nil)
	for _, failure := range []fakeazure.Failure{
		{HTTP: 500, Code: "InternalServerError", Message: "oops"},
		{HTTP: 429, Code: "TooManyRequests", Message: "slow down", RetryAfter: 1},
		{HTTP: 409, Code: "OperationNotAllowed", Message: "Another operation is in progress, see https://aka.ms/aks-pending-operation"},
	} {
		w.azure.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Error: &failure})
	}
	w.azure.AddFault(
		fakeazure.Fault{
			Verb:  "listMachines",
			Times: 1,
			Error: &fakeazure.Failure{HTTP: 503, Code: "ServiceUnavailable", Message: "oops"},
		},
	)
	w.ask("ws1")
	w.ready("ws1")
	assert.Len(t, w.azure.State().Pools, 1)
}

func TestHangingOperationIsAborted(t *testing.T) {
	w := newWorld(t, nil, "--operation-timeout=4s")
	w.azure.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Hang: true})
	w.ask("ws1")
	w.eventually("the operation is aborted", func() bool { return w.writes("abort") == 1 })
	w.eventually("the Machine says why it waits", func() bool {
		reason := w.condition("ws1", karpenterv1alpha5.ConditionMachineLaunched).Reason
		return reason == "OperationTimedOut" ||
			w.condition("ws1", karpenterv1alpha5.ConditionReady).Status == corev1.ConditionTrue
	})
	w.ready("ws1")
}

func TestStoppedClusterIsNotWrittenTo(t *testing.T) {
	w := newWorld(t, nil)
	w.ask("ws1")
	w.ready("ws1")
	w.azure.SetPower("Stopped")
	before := len(w.azure.State().Writes)
	w.ask("ws2")
	w.eventually("the new Machine has the reason", func() bool {
		return w.condition("ws2", karpenterv1alpha5.ConditionMachineLaunched).Reason == "ClusterNotRunning"
	})
	w.release("ws1")
	w.eventually("core has drained the node and asks for its machine to be deleted", func() bool {
		c := w.claim("ws1")
		return c != nil && c.StatusConditions().IsTrue("InstanceTerminating")
	})
	assert.Len(t, w.azure.State().Writes, before)
	w.azure.SetPower("Running")
	w.ready("ws2")
	w.away("ws1")
}

func TestResourcesOfOthersAreKept(t *testing.T) {
	w := newWorld(t, nil)
	w.azure.AddForeignPool("nodepool1", "Standard_D4s_v5", 2, map[string]string{"team": "platform"})
	w.ask("ws1")
	w.ready("ws1")
	w.release("ws1")
	w.away("ws1")
	w.empty()
	pools := w.azure.State().Pools
	require.Len(t, pools, 1)
	assert.Equal(t, "nodepool1", pools[0].Name)
	assert.Len(t, pools[0].Machines, 2)
	for _, write := range w.azure.State().Writes {
		assert.NotEqual(t, "nodepool1", write.Pool)
	}
	w.azure.RemovePool("nodepool1")
}

func TestEvictedMachineIsReported(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"ws1", "ws2"} {
		w.create(name, a100, "spot")
	}
	w.ready("ws1", "ws2")
	w.azure.Evict(w.machine("ws1").Status.ProviderID)
	w.fails("ws1", karpenterv1alpha5.ConditionMachineRegistered, "NodeGone")
	assert.Equal(t, corev1.ConditionTrue, w.condition("ws2", karpenterv1alpha5.ConditionReady).Status)
}

func TestDeletedPoolIsReported(t *testing.T) {
	w := newWorld(t, nil)
	w.ask("ws1")
	w.ready("ws1")
	w.azure.RemovePool(w.azure.State().Pools[0].Name)
	w.fails("ws1", karpenterv1alpha5.ConditionMachineRegistered, "NodeGone")
}

func TestIdentityWithoutRightsIsReported(t *testing.T) {
	w := newWorld(t, nil)
	w.azure.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Error: &fakeazure.Failure{
		HTTP:    403,
		Code:    "AuthorizationFailed",
		ARM:     true,
		Message: "The client does not have authorization to perform action 'Microsoft.ContainerService/managedClusters/agentPools/write'.",
	}})
	w.ask("ws1")
	w.eventually("the Machine has the reason and the remedy", func() bool {
		c := w.condition("ws1", karpenterv1alpha5.ConditionMachineLaunched)
		return c.Reason == "IdentityUnauthorized" && strings.Contains(c.Message, "az role assignment create")
	})
	assert.Equal(
		t, corev1.ConditionUnknown, w.condition("ws1", karpenterv1alpha5.ConditionMachineLaunched).Status,
		"it has not failed",
	)
	w.ready("ws1")
}
