// SPDX-License-Identifier: Apache-2.0

package provisioner_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/installed"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestMachineBecomesANodeAndIsDeletedWithItsPool(t *testing.T) {
	w := newWorld(t, nil)
	w.ask("ws1")
	w.ready("ws1")
	m := w.machine("ws1")
	node := &corev1.Node{}
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, node))
	assert.Equal(t, m.Status.ProviderID, node.Spec.ProviderID, "though ARM answers in another letter case")
	for key, value := range map[string]string{
		"kaito.sh/workspace": "ws1", "kaito.sh/machine-type": "gpu", corev1.LabelInstanceTypeStable: a100, karpv1.CapacityTypeLabelKey: "on-demand",
	} {
		assert.Equal(t, value, node.Labels[key], key)
	}
	assert.Contains(t, node.Spec.Taints, corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule})
	pools := w.azure.State().Pools
	require.Len(t, pools, 1)
	assert.Regexp(t, `^[a-z][a-z0-9]{0,11}$`, pools[0].Name)
	w.release("ws1")
	w.away("ws1")
	w.empty()
	assert.Zero(t, w.azure.State().Throttled, "the client obeys the documented limits")
}

func TestThreeMachinesShareAPoolAndOneOfThemGoes(t *testing.T) {
	w := newWorld(t, nil, together)
	w.ask("ws1", "ws2", "ws3")
	w.ready("ws1", "ws2", "ws3")
	require.Len(t, w.azure.State().Pools, 1)
	assert.Equal(t, 1, w.writes("putPool"), "one request for all three")
	gone := w.machine("ws2").Status.ProviderID
	w.release("ws2")
	w.away("ws2")
	assert.NotContains(t, w.azure.State().Pools[0].Machines, gone, "its own machine, and no other")
	assert.Len(t, w.azure.State().Pools[0].Machines, 2)
	assert.Equal(t, 1, w.writes("deleteMachines"))
	for _, name := range []string{"ws1", "ws3"} {
		assert.Equal(t, corev1.ConditionTrue, w.condition(name, karpenterv1alpha5.ConditionReady).Status, "%s stays", name)
	}
}

func TestQuotaFailureHasFiguresAndCostsNoWrite(t *testing.T) {
	w := newWorld(t, func(o *fakeazure.Options) {
		o.FamilyQuota = map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 100, Used: 92}}
	})
	w.ask("ws1")
	c := w.fails("ws1", karpenterv1alpha5.ConditionMachineLaunched, "QuotaExceeded")
	assert.Contains(t, c.Message, "needs 24 vCPUs")
	assert.Contains(t, c.Message, "has 8 of 100 left")
	assert.Contains(t, c.Message, "az quota update", "with what to do")
	w.eventually("core deletes the NodeClaim", func() bool { return w.claim("ws1") == nil })
	assert.Equal(
		t, "QuotaExceeded", w.condition("ws1", karpenterv1alpha5.ConditionMachineLaunched).Reason, "the evidence survives",
	)
	assert.Empty(t, w.azure.State().Writes)
}

func TestMachineThatNeverRegistersIsDeleted(t *testing.T) {
	w := newWorld(t, nil, "--node-join-timeout=5s")
	w.azure.AddFault(fakeazure.Fault{NeverJoins: true})
	w.ask("ws1")
	c := w.fails("ws1", karpenterv1alpha5.ConditionMachineRegistered, "NodeNeverJoined")
	assert.Contains(t, c.Message, "azure:///", "with the machine's name")
	w.eventually("its machine is deleted", func() bool { return len(w.azure.State().Pools) == 0 })
	assert.Equal(
		t, "NodeNeverJoined", w.condition("ws1", karpenterv1alpha5.ConditionMachineRegistered).Reason,
		"the evidence survives",
	)
}

func TestNodeWithoutGPUsIsReported(t *testing.T) {
	w := newWorld(t, nil)
	w.azure.AddFault(fakeazure.Fault{NoGPU: true})
	w.ask("ws1")
	c := w.fails("ws1", karpenterv1alpha5.ConditionMachineInitialized, "AcceleratorNotReady")
	assert.Contains(t, c.Message, "nvidia.com/gpu")
	w.release("ws1")
	w.away("ws1")
}

func TestRestartedProcessResumesOperations(t *testing.T) {
	w := newWorld(t, nil, together)
	w.ask("ws1", "ws2")
	w.eventually("Azure was called", func() bool { return w.writes("putPool") == 1 })
	w.crash()
	w.start()
	w.ready("ws1", "ws2")
	assert.Equal(t, 1, w.writes("putPool"), "no second request")
	w.release("ws1", "ws2")
	w.eventually("Azure was called", func() bool { return w.writes("deletePool")+w.writes("deleteMachines") > 0 })
	w.crash()
	w.start()
	w.away("ws1", "ws2")
	w.empty()
}

func TestNodeClaimWithoutAMachine(t *testing.T) {
	w := newWorld(t, func(o *fakeazure.Options) {
		o.FamilyQuota = map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 24}}
	})
	require.NoError(t, w.client.Create(t.Context(), installed.NodeClaim("fits", a100)))
	w.eventually("the claim is Ready", func() bool {
		c := w.claim("fits")
		return c != nil && c.StatusConditions().IsTrue("Ready")
	})
	require.NoError(t, w.client.Create(t.Context(), installed.NodeClaim("poor", a100)))
	w.eventually("core deletes the one that the quota has no room for", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.ContainsFunc(w.gone, func(c karpv1.NodeClaim) bool { return c.Name == "poor" })
	})
	w.mu.Lock()
	last := w.gone[len(w.gone)-1]
	w.mu.Unlock()
	launched := last.StatusConditions().Get(karpv1.ConditionTypeLaunched)
	assert.Equal(t, "QuotaExceeded", launched.Reason, "and it carried the reason before it went")
	assert.Contains(t, launched.Message, "has 0 of 24 left")
	require.NoError(t, w.client.Delete(t.Context(), w.claim("fits")))
	w.empty()
}
