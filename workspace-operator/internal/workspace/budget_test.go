// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

func budgetOf(namespace string, spec kaitov1alpha1.GPUBudgetSpec) *kaitov1alpha1.GPUBudget {
	return &kaitov1alpha1.GPUBudget{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "team"}, Spec: spec}
}

func patchBudget(t *testing.T, b *kaitov1alpha1.GPUBudget, edit func(*kaitov1alpha1.GPUBudgetSpec)) {
	t.Helper()
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(b), b))
	before := b.DeepCopy()
	edit(&b.Spec)
	require.NoError(t, shared.client.Patch(t.Context(), b, client.MergeFrom(before)))
}

// claimsIn are the Machines of a namespace that exist, also those that are being deleted.
func claimsIn(t assert.TestingT, namespace string) []karpenterv1alpha5.Machine {
	list := &karpenterv1alpha5.MachineList{}
	assert.NoError(
		t,
		shared.client.List(
			context.Background(), list, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceNamespace: namespace},
		),
	)
	return list.Items
}

// eventuallyOver waits until so many Workspaces are Stalled by a budget, and returns their messages.
func eventuallyOver(t *testing.T, namespace string, n int) []string {
	t.Helper()
	var messages []string
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		list := &kaitov1alpha1.WorkspaceList{}
		require.NoError(c, shared.client.List(context.Background(), list, client.InNamespace(namespace)))
		messages = nil
		for i := range list.Items {
			s := conditions.Get(&list.Items[i], conditions.Stalled)
			if s != nil && s.Status == metav1.ConditionTrue && s.Reason == kaitov1alpha1.ReasonBudgetExceeded {
				messages = append(messages, s.Message)
			}
		}
		assert.Len(c, messages, n)
	}, eventually.Long, eventually.Tick)
	return messages
}

func TestABudgetHoldsWorkspacesBeforeTheirClaims(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	b := budgetOf(namespace, kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](2)})
	create(t, b)
	const all = 6
	for i := range all {
		create(t, inferenceWorkspace(namespace, fmt.Sprintf("w%d", i)))
	}
	for _, message := range eventuallyOver(t, namespace, all-2) {
		for _, says := range []string{"GPUBudget " + namespace + "/team", "spec.maxNodes is 2, 2 are in use, and 1 more are wanted", "Standard_NC24ads_A100_v4", "(1 node)", "ask the administrator"} {
			assert.Contains(t, message, says)
		}
	}
	assert.Len(t, claimsIn(t, namespace), 2)

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got := &kaitov1alpha1.GPUBudget{}
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(b), got))
		assert.Equal(c, &kaitov1alpha1.BudgetUse{Nodes: 2, GPUs: 2, CostPerHour: "7.346"}, got.Status.Used)
		assert.EqualValues(c, all-2, got.Status.WaitingWorkspaces)
		assert.Len(c, got.Status.Workspaces, 2)
		assert.True(c, conditions.IsTrue(got, conditions.Ready))
		assert.Equal(c, got.Generation, got.Status.ObservedGeneration)
	}, eventually.Long, eventually.Tick)

	// Waiting costs nothing: neither a request nor a write.
	for i := range all { // a status that only says that work continues is written a moment later
		eventuallyWorkspace(
			t, inferenceWorkspace(namespace, fmt.Sprintf("w%d", i)),
			func(c *assert.CollectT, w *kaitov1alpha1.Workspace) { assert.NotEmpty(c, w.Status.State) },
		)
	}
	quiet := mark(t)
	eventually.Never(t, func() bool { return len(calls(t, quiet)) > 0 }, "waiting costs requests")

	// A Workspace that goes makes room for one, and only for one.
	user := claimsIn(t, namespace)[0].Labels[kaitov1alpha1.LabelWorkspaceName]
	require.NoError(t, shared.client.Delete(t.Context(), inferenceWorkspace(namespace, user)))
	eventuallyOver(t, namespace, all-3)
	assert.Len(t, claimsIn(t, namespace), 2)

	// After the budget is raised, all of them continue.
	patchBudget(t, b, func(s *kaitov1alpha1.GPUBudgetSpec) { s.MaxNodes = ptr.To[int32](10) })
	eventuallyOver(t, namespace, 0)
	require.EventuallyWithT(
		t, func(c *assert.CollectT) { assert.Len(c, claimsIn(c, namespace), all-1) }, eventually.Long, eventually.Tick,
	)
}

func TestAClaimCountsUntilItIsGone(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	create(t, budgetOf(namespace, kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](1)}))
	first := inferenceWorkspace(namespace, "first")
	create(t, first)
	m := &eventuallyMachines(t, first, 1)[0]
	controllerutil.AddFinalizer(m, karpenterv1alpha5.TerminationFinalizer)
	require.NoError(t, shared.client.Update(t.Context(), m))
	second := inferenceWorkspace(namespace, "second")
	create(t, second)
	eventuallyOver(t, namespace, 1)

	require.NoError(t, shared.client.Delete(t.Context(), first))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(m), m))
		assert.NotNil(c, m.DeletionTimestamp)
	}, eventually.Long, eventually.Tick)
	eventually.Never(t, func() bool { return len(claimsIn(t, namespace)) > 1 }, "a node that is going still costs money")
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(m), m))
	controllerutil.RemoveFinalizer(m, karpenterv1alpha5.TerminationFinalizer)
	require.NoError(t, shared.client.Update(t.Context(), m))
	eventuallyMachines(t, second, 1)
}

func TestALoweredBudgetTakesNoNodeAway(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	b := budgetOf(namespace, kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](2)})
	create(t, b)
	w := ready(t, inferenceWorkspace(namespace, "model"))
	patchBudget(t, b, func(s *kaitov1alpha1.GPUBudgetSpec) {
		s.MaxNodes, s.AllowedInstanceTypes = ptr.To[int32](0), []string{"Standard_NC4as_T4_v3"}
	})
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(b), b))
		assert.True(c, conditions.IsTrue(b, kaitov1alpha1.BudgetConditionOver))
	}, eventually.Long, eventually.Tick)
	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) {
		w.Inference.Adapters = []kaitov1alpha1.AdapterSpec{
			{Source: &kaitov1alpha1.DataSource{Name: "style", Image: "registry.example.com/style:1"}},
		}
	})
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		assert.Equal(c, w.Generation, w.Status.ObservedGeneration)
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
	machines := machinesOf(t, w)
	require.Len(t, machines, 1)

	// A node that is lost is not replaced: that would be a new one.
	require.NoError(t, shared.client.Delete(t.Context(), &machines[0]))
	message := eventuallyOver(t, namespace, 1)[0]
	assert.Contains(t, message, "spec.maxNodes is 0")
	assert.Contains(t, message, "spec.allowedInstanceTypes has Standard_NC4as_T4_v3")
	assert.Empty(t, claimsIn(t, namespace))
}

func TestAPlanIsMadeOfWhatABudgetAllows(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	b := budgetOf(
		namespace,
		kaitov1alpha1.GPUBudgetSpec{
			AllowedInstanceTypes: []string{"Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"},
			MaxGPUs:              ptr.To[int32](1),
		},
	)
	create(t, b)
	free := inferenceWorkspace(namespace, "free")
	free.Resource.InstanceType = ""
	create(t, free)
	got := eventuallyWorkspace(
		t, free, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) { require.NotNil(c, w.Status.Plan) },
	)
	assert.Equal(
		t, "Standard_NC24ads_A100_v4", got.Status.Plan.InstanceType,
		"the cheapest that is allowed, and not the cheapest of all",
	)

	other := inferenceWorkspace(namespace, "other")
	other.Resource.InstanceType = "Standard_NC6s_v3"
	create(t, other)
	message := eventuallyOver(t, namespace, 1)[0]
	assert.Contains(t, message, "Standard_NC6s_v3")
	assert.Contains(t, message, "spec.allowedInstanceTypes")
	assert.Empty(t, machinesOf(t, other))
	patchBudget(t, b, func(s *kaitov1alpha1.GPUBudgetSpec) { *s = kaitov1alpha1.GPUBudgetSpec{} })
	eventuallyMachines(t, other, 1)
}

func TestANewLeaderCountsWhatTheLastOneRented(t *testing.T) {
	first := start(t, options())
	namespace := newNamespace(t)
	create(t, budgetOf(namespace, kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](3)}))
	for i := range 3 {
		create(t, inferenceWorkspace(namespace, fmt.Sprintf("old%d", i)))
	}
	require.EventuallyWithT(
		t, func(c *assert.CollectT) { assert.Len(c, claimsIn(c, namespace), 3) }, eventually.Long, eventually.Tick,
	)
	first.stop()
	for i := range 3 {
		create(t, inferenceWorkspace(namespace, fmt.Sprintf("new%d", i)))
	}
	start(t, options())
	for _, message := range eventuallyOver(t, namespace, 3) {
		assert.Contains(t, message, "3 are in use")
	}
	assert.Len(t, claimsIn(t, namespace), 3)
	// The first operator's clean-up comes after this one's.
	require.NoError(t, shared.client.DeleteAllOf(t.Context(), &kaitov1alpha1.Workspace{}, client.InNamespace(namespace)))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		left := &kaitov1alpha1.WorkspaceList{}
		require.NoError(c, shared.client.List(t.Context(), left, client.InNamespace(namespace)))
		assert.Empty(c, left.Items)
	}, eventually.Long, eventually.Tick)
}

func TestAPlanOfTooManyNodesIsRefused(t *testing.T) {
	o := options()
	o.MaxNodes = 1
	start(t, o)
	namespace := newNamespace(t)
	w := inferenceWorkspace(namespace, "model")
	w.Inference.Preset.Name = "llama-3.3-70b-instruct"
	w.Resource = kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4", Count: ptr.To[int32](4)}
	create(t, w)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonTooManyNodes)
	})
	message := conditions.Get(got, conditions.Stalled).Message
	assert.Contains(t, message, fmt.Sprintf("%d new nodes", got.Status.Plan.Nodes))
	assert.Contains(t, message, "at most 1 (--max-nodes-per-workspace")
	assert.Empty(t, machinesOf(t, w), "no claim is made")
}
