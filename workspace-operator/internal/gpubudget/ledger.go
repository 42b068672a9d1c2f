// SPDX-License-Identifier: Apache-2.0

package gpubudget

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/watch"
)

// GPUBudgets limit what the Workspaces of a namespace rent. They are read past the cache before a node is rented.
// +kubebuilder:rbac:groups=kaito.sh,resources=gpubudgets,verbs=list;watch

// Ledger counts what the Workspaces of a namespace rent, and reserves room for new nodes.
type Ledger struct {
	// Cache reads caches, Live the API server itself.
	Cache, Live client.Reader
	Kinds       placement.Kinds
	Claims      placement.Claims
	Prices      budget.Prices
	Room        *Room
}

// Wish is the nodes that a Workspace wants to rent under the budgets of its namespace.
type Wish struct {
	Workspace types.NamespacedName
	Budgets   []kaitov1alpha1.GPUBudget
	Requests  []placement.Request
}

// Budgets lists the GPUBudgets of a namespace by name. It returns none where nothing is ever rented, and where the
// cluster does not serve the kind.
func (l *Ledger) Budgets(
	ctx context.Context, reader client.Reader, namespace string,
) ([]kaitov1alpha1.GPUBudget, error) {
	if len(l.Claims.APIs) == 0 {
		return nil, nil
	}
	served, err := l.Kinds.Served(ctx, &kaitov1alpha1.GPUBudget{})
	if err != nil || !served {
		return nil, err
	}
	list := &kaitov1alpha1.GPUBudgetList{}
	if err := reader.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the GPUBudgets of namespace %s: %w", namespace, err)
	}
	slices.SortFunc(list.Items, func(a, b kaitov1alpha1.GPUBudget) int { return cmp.Compare(a.Name, b.Name) })
	return list.Items, nil
}

// rented returns the claims of a namespace as nodes. A claim counts until it is gone: its machine costs money until
// then.
func (l *Ledger) rented(
	ctx context.Context, reader client.Reader, namespace string, by client.ListOption,
) ([]budget.Node, error) {
	claims, err := l.Claims.List(ctx, reader, by)
	if err != nil {
		return nil, err
	}
	var out []budget.Node
	for _, c := range claims {
		labels := c.Object.GetLabels()
		if labels[kaitov1alpha1.LabelWorkspaceNamespace] != namespace {
			continue
		}
		out = append(out, budget.Node{
			Claim: c.Name, Workspace: labels[kaitov1alpha1.LabelWorkspaceName], Bill: l.Prices.Bill(c.Choice(), c.GPUs),
		})
	}
	return out, nil
}

// Foresee checks a wish by the caches alone. It costs no request, so that any number of Workspaces may wait. A cache
// that is behind refuses no Workspace for long: the events that it has not seen yet enqueue those that wait.
func (l *Ledger) Foresee(ctx context.Context, w Wish) (*budget.Excess, error) {
	if len(w.Budgets) == 0 {
		return nil, nil
	}
	namespace := w.Workspace.Namespace
	rented, err := l.rented(ctx, l.Cache, namespace, client.MatchingFields{watch.ByOwnerNamespace: namespace})
	if err != nil {
		return nil, err
	}
	return l.check(w, w.Budgets, rented), nil
}

// Reserve counts the claims that the API server itself has, and reserves room for the wish until Settle. Two Workspaces
// of a namespace never count at the same time, and the second counts what the first has reserved, so that together they
// never exceed a budget. Claims of an earlier leader are counted, whether the cache shows them or not. Without a budget
// it costs nothing. uncached is true where the caches do not show yet what uses the room.
func (l *Ledger) Reserve(ctx context.Context, w Wish) (excess *budget.Excess, uncached bool, err error) {
	if len(w.Budgets) == 0 {
		return nil, false, nil
	}
	namespace := w.Workspace.Namespace
	lock := l.Room.lock(namespace)
	lock.Lock()
	defer lock.Unlock()
	// Other Workspaces may have taken the room since Foresee, which costs no request to see.
	if excess, err := l.Foresee(ctx, w); err != nil || excess != nil {
		return excess, false, err
	}
	budgets, err := l.Budgets(ctx, l.Live, namespace)
	if err != nil {
		return nil, false, err
	}
	byNamespace := client.MatchingLabels{kaitov1alpha1.LabelWorkspaceNamespace: namespace}
	rented, err := l.rented(ctx, l.Live, namespace, byNamespace)
	if err != nil {
		return nil, false, err
	}
	if excess := l.check(w, budgets, rented); excess != nil {
		return excess, true, nil
	}
	_, nodes := l.wanted(w)
	l.Room.reserve(w.Workspace, nodes)
	return nil, false, nil
}

// Settle ends a reservation once the claims exist, or once the API server has refused them. After an error that leaves
// this open, such as a timeout, the room stays reserved until the Workspace's next try, which uses the same names.
func (l *Ledger) Settle(w Wish, failed error) {
	if len(w.Budgets) == 0 || failed != nil && !refused(failed) {
		return
	}
	lock := l.Room.lock(w.Workspace.Namespace)
	lock.Lock()
	l.Room.release(w.Workspace)
	lock.Unlock()
	if failed != nil {
		l.Room.enqueueWaiting(w.Workspace.Namespace)
	}
}

func (l *Ledger) check(w Wish, budgets []kaitov1alpha1.GPUBudget, rented []budget.Node) *budget.Excess {
	wish, nodes := l.wanted(w)
	all := append(rented, l.Room.reservedByOthers(w.Workspace)...)
	all = slices.DeleteFunc(all, func(n budget.Node) bool {
		return slices.ContainsFunc(nodes, func(mine budget.Node) bool { return mine.Claim == n.Claim })
	})
	used, shares := budget.Sum(all)
	return budget.Check(budgets, used, shares, wish)
}

// wanted returns what a wish would rent.
func (l *Ledger) wanted(w Wish) (budget.Wish, []budget.Node) {
	first := w.Requests[0]
	wish := budget.Wish{
		InstanceType: first.InstanceType, CapacityType: first.CapacityType, Nodes: len(w.Requests),
		Bill: l.Prices.Bill(first.Choice(), first.GPUs),
	}
	var nodes []budget.Node
	for _, r := range w.Requests {
		nodes = append(nodes, budget.Node{
			Claim: placement.Name(r.UID, r.Ordinal, r.Attempt), Workspace: r.Name, Bill: wish.Bill,
		})
	}
	return wish, nodes
}

// refused returns whether the API server has certainly not done what it was asked for.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsUnauthorized(err)
}
