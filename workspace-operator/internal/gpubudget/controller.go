// SPDX-License-Identifier: Apache-2.0

package gpubudget

import (
	"context"
	"fmt"
	"strings"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/watch"
)

// The status of a GPUBudget says what is used.
// +kubebuilder:rbac:groups=kaito.sh,resources=gpubudgets/status,verbs=patch

// controllerName is in logs and metrics.
const controllerName = "gpubudget"

// countDelay gathers changes: a hundred claims that are created at once are counted once, and cost one status write.
const countDelay = 500 * time.Millisecond

// maxShares is how many Workspaces the status of a GPUBudget names; the schema has the same number.
const maxShares = 20

// Config is what a Reconciler needs.
type Config struct {
	// Client reads caches and writes.
	Client client.Client
	Ledger *Ledger
}

// Reconciler counts what a namespace uses of its GPUBudgets. A request names a namespace and no object.
type Reconciler struct {
	client client.Client
	ledger *Ledger
}

// New returns a Reconciler.
func New(c Config) *Reconciler { return &Reconciler{client: c.Client, ledger: c.Ledger} }

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	enqueue := func(q queue, request reconcile.Request) { q.AddAfter(request, countDelay) }
	err := ctrl.NewControllerManagedBy(mgr).Named(controllerName).
		WatchesRawSource(r.ledger.Room.namespaces.source(enqueue)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("building the controller %s: %w", controllerName, err)
	}
	return nil
}

// Reconcile writes the use into the status of a namespace's GPUBudgets. It reads caches only.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	namespace := request.Namespace
	budgets, err := r.ledger.Budgets(ctx, r.client, namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.ledger.Room.setBudgeted(namespace, len(budgets) > 0)
	if len(budgets) == 0 {
		return reconcile.Result{}, nil
	}
	rented, err := r.ledger.rented(ctx, r.client, namespace, client.MatchingFields{watch.ByOwnerNamespace: namespace})
	if err != nil {
		return reconcile.Result{}, err
	}
	waiting, err := r.countWaiting(ctx, namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	used, shares := budget.Sum(rented)
	for i := range budgets {
		b := &budgets[i]
		before := b.DeepCopy()
		fillStatus(b, used, shares, waiting)
		if _, err := patch.Status(ctx, r.client, before, b); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

// countWaiting counts the Workspaces that a budget keeps from renting nodes.
func (r *Reconciler) countWaiting(ctx context.Context, namespace string) (int, error) {
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

func fillStatus(b *kaitov1alpha1.GPUBudget, used budget.Use, shares []budget.Share, waiting int) {
	s := &b.Status
	s.ObservedGeneration = b.Generation
	total := useOf(used)
	s.Used = &total
	s.WaitingWorkspaces = int32(waiting) //nolint:gosec // a number of objects
	s.Workspaces, s.OtherWorkspaces = nil, 0
	for i, share := range shares {
		if i == maxShares {
			s.OtherWorkspaces = int32(len(shares) - i) //nolint:gosec // a number of objects
			break
		}
		s.Workspaces = append(s.Workspaces, kaitov1alpha1.BudgetShare{Name: share.Workspace, BudgetUse: useOf(share.Use)})
	}
	conditions.True(b, conditions.Ready, kaitov1alpha1.BudgetCounted,
		"the use of the namespace is counted, and new nodes are held to this budget")
	if over := budget.Over(b, used); len(over) > 0 {
		conditions.True(b, kaitov1alpha1.BudgetConditionOver, kaitov1alpha1.BudgetOver, strings.Join(over, "; ")+
			". Running Workspaces keep their nodes; no new node is rented until the use is within the limits")
		return
	}
	conditions.False(b, kaitov1alpha1.BudgetConditionOver, kaitov1alpha1.BudgetWithin, "the use is within all limits")
}

func useOf(u budget.Use) kaitov1alpha1.BudgetUse {
	//nolint:gosec // numbers of objects
	return kaitov1alpha1.BudgetUse{
		Nodes: int32(u.Nodes), GPUs: int32(u.GPUs), CostPerHour: u.Cost.String(), UnpricedNodes: int32(u.Unpriced),
	}
}
