// SPDX-License-Identifier: Apache-2.0

package budget_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/budget"
)

func one(spec kaitov1alpha1.GPUBudgetSpec) []kaitov1alpha1.GPUBudget {
	return []kaitov1alpha1.GPUBudget{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "team"}, Spec: spec}}
}

var a100 = budget.Bill{GPUs: 1, Cost: budget.Dollars(3.673), Priced: true}

func wish(nodes int) budget.Wish {
	return budget.Wish{
		InstanceType: "Standard_NC24ads_A100_v4",
		CapacityType: kaitov1alpha1.CapacityOnDemand,
		Nodes:        nodes,
		Bill:         a100,
	}
}

func TestMoneyIsReadAndSummedExactly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]budget.Money{"0": 0, "12": 12_000_000, "12.5": 12_500_000, "0.000001": 1, "999999999.999999": 999_999_999_999_999} {
		got, err := budget.ParseMoney(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", ".", "-1", "1e3", "1,5", "1.1234567", "1234567890"} {
		_, err := budget.ParseMoney(text)
		assert.Error(t, err, text)
	}
	use := budget.Bill{Cost: budget.Dollars(0.1), Priced: true}.Times(30)
	assert.Equal(t, "3.000", use.Cost.String(), "a sum of floats would be 2.9999999999999996")
}

func TestAClaimIsCountedOnceByItsName(t *testing.T) {
	t.Parallel()
	total, shares := budget.Sum([]budget.Node{
		{Claim: "a", Workspace: "w1", Bill: a100}, {Claim: "a", Workspace: "w1", Bill: a100},
		{Claim: "b", Workspace: "w2", Bill: budget.Bill{GPUs: 8}}, {Claim: "c", Workspace: "w2", Bill: a100},
	})
	assert.Equal(t, budget.Use{Nodes: 3, GPUs: 10, Cost: 7_346_000, Unpriced: 1}, total)
	require.Len(t, shares, 2)
	assert.Equal(t, "w2", shares[0].Workspace, "who has most is first")
}

func TestEveryLimitRefusesJustBeyondIt(t *testing.T) {
	t.Parallel()
	used := a100.Times(2)
	shares := []budget.Share{{Workspace: "first", Use: used}}
	for name, test := range map[string]struct {
		spec kaitov1alpha1.GPUBudgetSpec
		fits int // nodes that are allowed; one more is not
		says []string
	}{
		"nodes": {kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](5)}, 3, []string{"spec.maxNodes is 5, 2 are in use, and 4 more are wanted"}},
		"gpus":  {kaitov1alpha1.GPUBudgetSpec{MaxGPUs: ptr.To[int32](4)}, 2, []string{"spec.maxGPUs is 4, 2 are in use, and 3 more are wanted"}},
		"cost":  {kaitov1alpha1.GPUBudgetSpec{MaxCostPerHour: "14.692"}, 2, []string{"spec.maxCostPerHour is 14.692, 7.346 are in use, and 11.019 more are wanted"}},
		"two":   {kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](2), MaxGPUs: ptr.To[int32](2)}, 0, []string{"spec.maxNodes is 2", "spec.maxGPUs is 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.fits > 0 {
				assert.Nil(t, budget.Check(one(test.spec), used, shares, wish(test.fits)))
			}
			excess := budget.Check(one(test.spec), used, shares, wish(test.fits+1))
			require.NotNil(t, excess)
			for _, want := range append(test.says, "GPUBudget ns/team", "Standard_NC24ads_A100_v4", "first (2 nodes)", "ask the administrator") {
				assert.Contains(t, excess.String(), want)
			}
			assert.NotContains(t, excess.What, "first", "what stays the same must not name the users")
		})
	}
}

func TestWhatANodeIsCanBeForbidden(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spec kaitov1alpha1.GPUBudgetSpec
		wish budget.Wish
		says string
	}{
		"size":     {kaitov1alpha1.GPUBudgetSpec{AllowedInstanceTypes: []string{"Standard_NC4as_T4_v3"}}, wish(1), "spec.allowedInstanceTypes has Standard_NC4as_T4_v3"},
		"capacity": {kaitov1alpha1.GPUBudgetSpec{AllowedCapacityTypes: []kaitov1alpha1.CapacityType{kaitov1alpha1.CapacitySpot}}, wish(1), "spec.allowedCapacityTypes has spot"},
		"price":    {kaitov1alpha1.GPUBudgetSpec{MaxCostPerHour: "100"}, budget.Wish{InstanceType: "Standard_Own", Nodes: 1, Bill: budget.Bill{GPUs: 1}}, "no price of the size is known"},
		"nodes":    {kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](0)}, wish(1), "spec.maxNodes is 0, and 1 are wanted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Contains(t, budget.Forbids(one(test.spec), test.wish), test.says)
			require.NotNil(t, budget.Check(one(test.spec), budget.Use{}, nil, test.wish))
		})
	}
	assert.Empty(
		t,
		budget.Forbids(one(kaitov1alpha1.GPUBudgetSpec{AllowedInstanceTypes: []string{"standard_nc24ADS_a100_v4"}}), wish(1)),
		"letter case does not matter",
	)
	assert.Empty(t, budget.Forbids(one(kaitov1alpha1.GPUBudgetSpec{}), wish(100)), "no limit limits nothing")
}

func TestEachOfSeveralBudgetsMustHold(t *testing.T) {
	t.Parallel()
	budgets := append(
		one(kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](9)}),
		one(kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](1)})...)
	budgets[1].Name = "tighter"
	assert.Nil(t, budget.Check(budgets, budget.Use{}, nil, wish(1)))
	excess := budget.Check(budgets, budget.Use{}, nil, wish(2))
	require.NotNil(t, excess)
	assert.Contains(t, excess.What, "GPUBudget ns/tighter")
}

func TestACostOfUnknownPricesRefusesMore(t *testing.T) {
	t.Parallel()
	budgets := one(kaitov1alpha1.GPUBudgetSpec{MaxCostPerHour: "100"})
	excess := budget.Check(budgets, budget.Bill{GPUs: 1}.Times(2), nil, wish(1))
	require.NotNil(t, excess)
	assert.Contains(t, excess.What, "the price of 2 nodes in use is not known")
	assert.Empty(t, budget.Over(&budgets[0], budget.Bill{GPUs: 1}.Times(2)), "it is not known to be over")
	assert.Equal(
		t, []string{"spec.maxCostPerHour is 100, and 110.190 are in use"}, budget.Over(&budgets[0], a100.Times(30)),
	)
}
