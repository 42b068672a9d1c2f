// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// A VM size and its quota family.
const (
	a100   = "Standard_NC24ads_A100_v4"
	family = "StandardNCADSA100v4Family"
)

func TestMachinesBecomeNodesAndAreDeleted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, because Karpenter drains for five seconds and polls every five")
	}
	f := newFixture(t)

	f.azure.SetUsages(azure.Usage{Name: family, Limit: 80})
	f.ask("ws1", "ws2", "ws3")
	for _, name := range []string{"ws1", "ws2", "ws3"} {
		f.eventually(
			name+" is Ready",
			func() bool { return f.condition(name, karpenterv1alpha5.ConditionReady).Status == corev1.ConditionTrue },
		)
	}
	f.azure.SetUsages(azure.Usage{Name: family, Current: 72, Limit: 80}) // as Azure counts them
	require.Len(t, f.azure.Names(), 1)
	shared := f.azure.Names()[0]
	assert.Equal(t, []string{"create " + shared + " 3"}, f.azure.Calls(), "one request for all three")

	m := f.machine("ws2")
	node := &corev1.Node{}
	require.NoError(t, f.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, node))
	assert.Equal(t, m.Status.ProviderID, node.Spec.ProviderID)
	for key, value := range map[string]string{
		"kaito.sh/workspace": "ws2", "kaito.sh/machine-type": "gpu", corev1.LabelInstanceTypeStable: a100, karpv1.CapacityTypeLabelKey: "on-demand",
		karpenterv1alpha5.LabelProvisionerName: "default", karpv1.NodeInitializedLabelKey: "true",
	} {
		assert.Equal(t, value, node.Labels[key], key)
	}
	assert.Contains(t, node.Spec.Taints, corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule})
	assert.Equal(t, a100, m.Labels[corev1.LabelInstanceTypeStable])

	f.delete("ws2")
	f.eventually("ws2 is gone", func() bool { return f.machine("ws2") == nil })
	assert.True(
		t, apierrors.IsNotFound(f.client.Get(t.Context(), client.ObjectKey{Name: m.Status.NodeName}, &corev1.Node{})),
		"with its Node",
	)
	calls := f.azure.Calls()
	assert.True(t, strings.HasPrefix(calls[len(calls)-1], "deleteMachines "+shared), "by name: %v", calls)
	for _, name := range []string{"ws1", "ws3"} {
		assert.Equal(t, corev1.ConditionTrue, f.condition(name, karpenterv1alpha5.ConditionReady).Status, "%s stays", name)
	}

	f.ask("poor")
	f.eventually("the Machine has the numbers of the quota", func() bool {
		c := f.condition("poor", karpenterv1alpha5.ConditionMachineLaunched)
		return c.Status == corev1.ConditionFalse && c.Reason == karpenterv1alpha5.ReasonQuotaExceeded &&
			strings.Contains(c.Message, "has 8 of 80 left")
	})
	f.eventually("Karpenter deletes the NodeClaim", func() bool {
		return apierrors.IsNotFound(f.client.Get(t.Context(), client.ObjectKey{Name: "poor"}, &karpv1.NodeClaim{}))
	})
	assert.Equal(
		t, karpenterv1alpha5.ReasonQuotaExceeded, f.condition("poor", karpenterv1alpha5.ConditionMachineLaunched).Reason,
		"the reason remains",
	)
	assert.NotContains(t, fmt.Sprint(f.azure.Calls()), "resize", "Azure was not called")

	f.delete("ws1", "ws3", "poor")
	f.eventually("the Machines and the pool are gone", func() bool {
		var list karpenterv1alpha5.MachineList
		return f.client.List(t.Context(), &list) == nil && len(list.Items) == 0 && len(f.azure.Names()) == 0
	})
	var nodes corev1.NodeList
	require.NoError(t, f.client.List(t.Context(), &nodes))
	assert.Empty(t, nodes.Items)
}

func TestClaimThatRequestsStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 seconds, because Karpenter drains")
	}
	f := newFixture(t)
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "kaito"}}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{a100}},
		{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
	}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("300Gi")}
	require.NoError(t, f.client.Create(t.Context(), claim))
	f.eventually("the claim is Ready", func() bool {
		return f.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim) == nil &&
			claim.StatusConditions().IsTrue("Ready")
	})
	require.Len(t, f.azure.Names(), 1)
	assert.EqualValues(t, 300, f.azure.Spec(f.azure.Names()[0]).OSDiskSizeGiB, "its machine has the disk")
	assert.Equal(
		t, resource.MustParse("300Gi"), claim.Spec.Resources.Requests[corev1.ResourceStorage],
		"the stored claim is unchanged",
	)
	require.NoError(t, f.client.Delete(t.Context(), claim))
	f.eventually("the claim and the pool are gone", func() bool {
		return apierrors.IsNotFound(f.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim)) &&
			len(f.azure.Names()) == 0
	})
}
