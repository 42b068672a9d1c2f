// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/placement"
)

func machine(name, uid, providerID string, conditions ...karpenterv1alpha5.Condition) placement.Claim {
	m := &karpenterv1alpha5.Machine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{kaitov1alpha1.LabelWorkspaceUID: uid}},
	}
	m.Status.ProviderID, m.Status.Conditions = providerID, conditions
	return placement.Machines{}.Read(m)
}

func in(pool, number string) string {
	return "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/aks-" + pool + "-12345678-vmss/virtualMachines/" + number
}

func TestUnexplainedSurplusOfMachinesIsAnOrphan(t *testing.T) {
	t.Parallel()
	prices, err := catalog.Load()
	require.NoError(t, err)
	ours := map[string]string{tagManagedBy: managedByValue, tagPoolKey: "aaaaaaaa"}
	failed := karpenterv1alpha5.Condition{
		Type:   karpenterv1alpha5.ConditionMachineLaunched,
		Status: corev1.ConditionFalse,
		Reason: "QuotaExceeded",
	}
	for name, test := range map[string]struct {
		pool   agentPool
		claims []placement.Claim
		want   string
	}{
		"as many as claims":                      {agentPool{Count: 2}, []placement.Claim{machine("a", "u", in("gaaaaaaaa0", "0")), machine("b", "u", in("gaaaaaaaa0", "1"))}, ""},
		"one too many":                           {agentPool{Count: 2}, []placement.Claim{machine("a", "u", in("gaaaaaaaa0", "0"))}, stateOrphan},
		"of another pool":                        {agentPool{Count: 1}, []placement.Claim{machine("a", "u", in("gbbbbbbbb0", "0"))}, stateOrphan},
		"one may be for a claim that waits":      {agentPool{Count: 2}, []placement.Claim{machine("a", "u", in("gaaaaaaaa0", "0")), machine("b", "u", "")}, stateTransient},
		"a claim that has failed waits for none": {agentPool{Count: 2}, []placement.Claim{machine("a", "u", in("gaaaaaaaa0", "0")), machine("b", "u", "", failed)}, stateOrphan},
		"an operation runs":                      {agentPool{Count: 2, ProvisioningState: "Deleting"}, nil, stateTransient},
		"empty":                                  {agentPool{}, nil, stateTransient},
		"another owner":                          {agentPool{Count: 9, Tags: map[string]string{tagManagedBy: managedByValue}}, nil, ""},
		"fewer than claims: Azure is to bring the others": {agentPool{Count: 1}, []placement.Claim{machine("a", "u", in("gaaaaaaaa0", "0")), machine("b", "u", in("gaaaaaaaa0", "1"))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := test.pool
			p.Name, p.VMSize = "gaaaaaaaa0", "Standard_NC24ads_A100_v4"
			if p.ProvisioningState == "" {
				p.ProvisioningState = "Succeeded"
			}
			if p.Tags == nil {
				p.Tags = ours
			}
			inv := inventory{now: time.Now(), pools: []agentPool{p}, claims: test.claims}
			got := ""
			for _, f := range inv.poolFindings(prices) {
				got = f.State
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestAClaimBehindAMachineIsJudgedWithIt(t *testing.T) {
	t.Parallel()
	prices, err := catalog.Load()
	require.NoError(t, err)
	m := machine("m", "gone", "")
	m.UID = "machine"
	m.Object.SetUID("machine")
	behind := machine("m", "gone", in("gaaaaaaaa0", "0"))
	behind.Object.SetOwnerReferences(
		[]metav1.OwnerReference{{Kind: "Machine", Name: "m", UID: "machine", Controller: new(true)}},
	)

	both := inventory{now: time.Now(), claims: []placement.Claim{m, behind}}
	got := both.claimFindings(prices)
	require.Len(t, got, 1, "one finding, not two")
	assert.Equal(t, stateOrphan, got[0].State)

	alone := inventory{now: time.Now(), claims: []placement.Claim{behind}}
	got = alone.claimFindings(prices)
	require.Len(t, got, 1)
	assert.Equal(t, "its owner Machine m does not exist", got[0].Why)
}

func TestAProviderIDNamesItsAgentPool(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "gaaaaaaaa0", poolOf(in("gaaaaaaaa0", "12")))
	assert.Empty(t, poolOf("kwok://node"))
	assert.Empty(t, poolOf(""))
}
