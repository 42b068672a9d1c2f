// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/eventually"
)

// calls are the operator's requests since a mark, without the watches and lists that fill its caches, and without
// leases.
func calls(t assert.TestingT, since audit.Mark) []audit.Request {
	requests, err := shared.audit.Requests(
		since, audit.User(operatorUser), audit.Not(audit.Verb("watch", "list")), audit.Not(audit.Resource("leases")),
		func(r audit.Request) bool { return r.Resource != "" },
	) // discovery
	assert.NoError(t, err)
	return requests
}

func mark(t *testing.T) audit.Mark {
	t.Helper()
	m, err := shared.audit.Mark()
	require.NoError(t, err)
	return m
}

// ready brings a serving Workspace to Ready.
func ready(t *testing.T, w *kaitov1alpha1.Workspace) *kaitov1alpha1.Workspace {
	t.Helper()
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	launch(t, &machine, "1")
	return eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
}

// Two of the requests are dry runs, before the first node is rented.
func TestAWorkspaceCostsNineRequestsAndThenNone(t *testing.T) {
	running := start(t, options())
	namespace := newNamespace(t)
	before := mark(t)
	w := ready(t, inferenceWorkspace(namespace, "plain"))

	spent := calls(t, before)
	assert.LessOrEqual(t, len(spent), 9, audit.Table(spent))
	for _, r := range spent {
		assert.Less(t, r.Code, 300, "a conflict, or a write of what was there: %s %s %s", r.Verb, r.Resource, r.Path)
	}

	quiet := func(what string, do func()) {
		t.Helper()
		before := mark(t)
		do()
		eventually.Never(t, func() bool { return len(calls(t, before)) > 0 }, what)
		if got := calls(t, before); len(got) > 0 {
			t.Log(audit.Table(got))
		}
	}
	budget := &kaitov1alpha1.GPUBudget{ObjectMeta: metav1.ObjectMeta{Name: "team", Namespace: namespace}}
	budget.Spec.MaxNodes = ptr.To[int32](5)
	require.NoError(t, shared.client.Create(t.Context(), budget))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(budget), budget))
		require.NotNil(c, budget.Status.Used)
		assert.EqualValues(c, 1, budget.Status.Used.Nodes)
	}, eventually.Short, eventually.Tick)
	quiet("touching the Workspace", func() {
		patched := w.DeepCopy()
		patched.Annotations = map[string]string{"touched": "yes"}
		require.NoError(t, shared.client.Patch(t.Context(), patched, client.MergeFrom(w)))
	})
	quiet("touching its Deployment", func() {
		d := &appsv1.Deployment{}
		require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), d))
		patched := d.DeepCopy()
		patched.Labels["touched"] = "yes"
		require.NoError(t, shared.client.Patch(t.Context(), patched, client.MergeFrom(d)))
	})
	quiet("restarting the operator", func() {
		running.stop()
		start(t, options())
	})
	// The first operator's clean-up comes after this one's.
	require.NoError(t, shared.client.Delete(t.Context(), w))
	require.Eventually(t, func() bool {
		return apierrors.IsNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &kaitov1alpha1.Workspace{}))
	}, eventually.Long, eventually.Tick)
}
