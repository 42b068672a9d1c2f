// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/budget"
)

// shownShares is how many Workspaces the status of a GPUBudget names; the schema has the same number.
const shownShares = 20

// count writes into the status of a namespace's GPUBudgets what is used, from the cache.
func (r *Reconciler) count(ctx context.Context, namespace string) error {
	budgets, err := r.budgetsOf(ctx, r.client, namespace)
	if err != nil {
		return err
	}
	r.room.budget(namespace, len(budgets) > 0)
	if len(budgets) == 0 {
		return nil
	}
	rented, err := r.rented(ctx, r.client, namespace, client.MatchingFields{indexOwnerNamespace: namespace})
	if err != nil {
		return err
	}
	waiting, err := r.waitingIn(ctx, namespace)
	if err != nil {
		return err
	}
	used, shares := budget.Sum(rented)
	for i := range budgets {
		b := &budgets[i]
		before := b.DeepCopy()
		account(b, used, shares, waiting)
		if _, err := patch.Status(ctx, r.client, before, b); err != nil {
			return err
		}
	}
	return nil
}

// waitingIn counts the Workspaces that a budget keeps from renting nodes.
func (r *Reconciler) waitingIn(ctx context.Context, namespace string) (int, error) {
	list := &kaitov1alpha1.WorkspaceList{}
	if err := r.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return 0, fmt.Errorf("listing the Workspaces of namespace %s: %w", namespace, err)
	}
	n := 0
	for i := range list.Items {
		w := &list.Items[i]
		c := conditions.Get(w, conditions.Stalled)
		if w.DeletionTimestamp == nil && conditions.IsTrue(w, conditions.Stalled) &&
			c.Reason == kaitov1alpha1.ReasonBudgetExceeded {
			n++
		}
	}
	return n, nil
}

// account puts the use into a budget's status.
func account(b *kaitov1alpha1.GPUBudget, used budget.Use, shares []budget.Share, waiting int) {
	s := &b.Status
	s.ObservedGeneration = b.Generation
	total := use(used)
	s.Used = &total
	s.WaitingWorkspaces = int32(waiting) //nolint:gosec // a number of objects
	s.Workspaces, s.OtherWorkspaces = nil, 0
	for i, share := range shares {
		if i == shownShares {
			s.OtherWorkspaces = int32(len(shares) - i) //nolint:gosec // as above
			break
		}
		s.Workspaces = append(s.Workspaces, kaitov1alpha1.BudgetShare{Name: share.Workspace, BudgetUse: use(share.Use)})
	}
	conditions.True(
		b, conditions.Ready, kaitov1alpha1.BudgetCounted,
		"the use of the namespace is counted, and new nodes are held to this budget",
	)
	if over := budget.Over(b, used); len(over) > 0 {
		conditions.True(
			b,
			kaitov1alpha1.BudgetConditionOver,
			kaitov1alpha1.BudgetOver,
			strings.Join(
				over, "; ",
			)+". Running Workspaces keep their nodes; no new node is rented until the use is within the limits",
		)
		return
	}
	conditions.False(b, kaitov1alpha1.BudgetConditionOver, kaitov1alpha1.BudgetWithin, "the use is within all limits")
}

func use(u budget.Use) kaitov1alpha1.BudgetUse {
	return kaitov1alpha1.BudgetUse{
		Nodes:         int32(u.Nodes),
		GPUs:          int32(u.GPUs),
		CostPerHour:   u.Cost.String(),
		UnpricedNodes: int32(u.Unpriced), //nolint:gosec // numbers of objects
	}
}
