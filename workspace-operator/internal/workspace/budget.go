// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/recent"
)

// GPUBudgets limit what the Workspaces of a namespace rent. They are read past the cache before a node is rented.
// +kubebuilder:rbac:groups=kaito.sh,resources=gpubudgets,verbs=list;watch
// Their status says what is used.
// +kubebuilder:rbac:groups=kaito.sh,resources=gpubudgets/status,verbs=patch

// readBudgets reads the GPUBudgets of the Workspace's namespace from the cache: the plan depends on them.
func (r *Reconciler) readBudgets(ctx context.Context, s *scope) (flow.Result, error) {
	if r.options.NodeAPI == NodeAPINone {
		return flow.Continue(), nil // nothing is ever rented
	}
	budgets, err := r.budgetsOf(ctx, r.client, s.workspace.Namespace)
	if err != nil {
		return flow.Stop(), err
	}
	s.budgets = budgets
	if len(budgets) > 0 {
		r.room.wait(client.ObjectKeyFromObject(s.workspace))
	}
	return flow.Continue(), nil
}

// budgetsOf lists the GPUBudgets of a namespace by name; none where the cluster does not serve the kind.
func (r *Reconciler) budgetsOf(
	ctx context.Context, reader client.Reader, namespace string,
) ([]kaitov1alpha1.GPUBudget, error) {
	served, err := r.foreign.Served(ctx, &kaitov1alpha1.GPUBudget{})
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

// bill is what a node counts for. A size that the catalogue does not have counts with the GPUs that were asked for.
func (r *Reconciler) bill(instanceType string, capacityType kaitov1alpha1.CapacityType, gpus int64) budget.Bill {
	var bill budget.Bill
	if biller, ok := r.planner.(Biller); ok {
		bill = biller.Bill(instanceType, capacityType)
	}
	if bill.GPUs == 0 {
		bill.GPUs = gpus
	}
	return bill
}

// rented are the claims of a namespace as nodes that count. A claim counts until it is gone: its machine costs money
// until then.
func (r *Reconciler) rented(
	ctx context.Context, reader client.Reader, namespace string, by client.ListOption,
) ([]budget.Node, error) {
	var out []budget.Node
	for _, api := range r.claimAPIs() {
		served, err := r.foreign.Served(ctx, api.Object())
		if err != nil {
			return nil, err
		}
		if !served {
			continue
		}
		claims, err := claimsOf(ctx, reader, api, by)
		if err != nil {
			return nil, err
		}
		for _, c := range claims {
			labels := c.Object.GetLabels()
			if labels[kaitov1alpha1.LabelWorkspaceNamespace] != namespace {
				continue
			}
			out = append(
				out,
				budget.Node{
					Claim:     c.Name,
					Workspace: labels[kaitov1alpha1.LabelWorkspaceName],
					Bill:      r.bill(c.InstanceType, c.CapacityType, c.GPUs),
				},
			)
		}
	}
	return out, nil
}

// wish is what the missing claims would rent.
func (r *Reconciler) wish(requests []placement.Request) (budget.Wish, []budget.Node) {
	first := requests[0]
	w := budget.Wish{
		InstanceType: first.InstanceType,
		CapacityType: first.CapacityType,
		Nodes:        len(requests),
		Bill:         r.bill(first.InstanceType, first.CapacityType, first.GPUs),
	}
	var nodes []budget.Node
	for _, request := range requests {
		nodes = append(
			nodes,
			budget.Node{Claim: placement.Name(request.UID, request.Ordinal, request.Attempt), Workspace: request.Name, Bill: w.Bill},
		)
	}
	return w, nodes
}

// foreseen says by the cache alone whether the budgets allow the claims. It costs no request, so that any number of
// Workspaces may wait. A cache that is behind refuses no Workspace for long: what it has not seen yet wakes those that
// wait.
func (r *Reconciler) foreseen(ctx context.Context, s *scope, requests []placement.Request) (*budget.Excess, error) {
	if len(s.budgets) == 0 {
		return nil, nil
	}
	rented, err := r.rented(
		ctx, r.client, s.workspace.Namespace, client.MatchingFields{indexOwnerNamespace: s.workspace.Namespace},
	)
	if err != nil {
		return nil, err
	}
	return r.check(s, s.budgets, rented, requests), nil
}

func (r *Reconciler) check(
	s *scope, budgets []kaitov1alpha1.GPUBudget, rented []budget.Node, requests []placement.Request,
) *budget.Excess {
	wish, nodes := r.wish(requests)
	all := append(rented, r.room.held(client.ObjectKeyFromObject(s.workspace))...)
	all = slices.DeleteFunc(all, func(n budget.Node) bool {
		return slices.ContainsFunc(nodes, func(mine budget.Node) bool { return mine.Claim == n.Claim })
	})
	used, shares := budget.Sum(all)
	return budget.Check(budgets, used, shares, wish)
}

// reserve counts what the API server itself has, and keeps the room for the claims until settle. Two Workspaces of a
// namespace never count at the same time, and what one has reserved the next one counts, so that together they never
// exceed a budget. A claim that a leader before this one has created is counted, whether the cache shows it or not.
// Without a budget it costs nothing.
func (r *Reconciler) reserve(ctx context.Context, s *scope, requests []placement.Request) (*budget.Excess, error) {
	w := s.workspace
	if len(s.budgets) == 0 {
		return nil, nil
	}
	lock := r.room.lock(w.Namespace)
	lock.Lock()
	defer lock.Unlock()
	// Once more: meanwhile others may have taken the room, which costs no request to see.
	if excess, err := r.foreseen(ctx, s, requests); err != nil || excess != nil {
		return excess, err
	}
	budgets, err := r.budgetsOf(ctx, r.live, w.Namespace)
	if err != nil {
		return nil, err
	}
	rented, err := r.rented(
		ctx, r.live, w.Namespace, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceNamespace: w.Namespace},
	)
	if err != nil {
		return nil, err
	}
	if excess := r.check(s, budgets, rented, requests); excess != nil {
		s.unseen = true
		return excess, nil
	}
	_, nodes := r.wish(requests)
	r.room.reserve(client.ObjectKeyFromObject(w), nodes)
	return nil, nil
}

// settle ends a reservation when the claims are created, or surely are not. After a failure that leaves it open, such
// as a timeout, the room stays reserved until the Workspace's next try, which uses the same names.
func (r *Reconciler) settle(ctx context.Context, s *scope, failed error) {
	if len(s.budgets) == 0 || failed != nil && !refused(failed) {
		return
	}
	w := s.workspace
	lock := r.room.lock(w.Namespace)
	lock.Lock()
	r.room.release(client.ObjectKeyFromObject(w))
	lock.Unlock()
	if failed != nil {
		r.room.tell(ctx, w.Namespace)
	}
}

// refused says whether the API server has surely not done what it was asked for.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) ||
		apierrors.IsMethodNotSupported(err) ||
		apierrors.IsTooManyRequests(err) ||
		apierrors.IsUnauthorized(err)
}

// exceed stalls the Workspace. While the numbers stay the same the message does too, so that a change of who uses the
// room costs no write for each Workspace that waits.
func (s *scope) exceed(excess *budget.Excess) {
	message := excess.String()
	if c := conditions.Get(
		s.before, kaitov1alpha1.ConditionResourceReady,
	); c != nil && c.Reason == kaitov1alpha1.ReasonBudgetExceeded &&
		strings.HasPrefix(c.Message, excess.What+". ") {
		message = c.Message
	}
	o := stuck(kaitov1alpha1.ReasonBudgetExceeded, message)
	s.refused = &o
	if s.unseen {
		// The cache does not show yet what uses the room. A watch that is broken may never show it: look once more.
		s.recheck = soonest(s.recheck, recent.Horizon)
	}
}

// overBudget says whether a budget keeps the Workspace from going on.
func (s *scope) overBudget() bool {
	over := func(o *outcome) bool { return o != nil && o.reason == kaitov1alpha1.ReasonBudgetExceeded }
	return over(s.blocked) || over(s.refused)
}

// wasOverBudget says whether that is what the status said before this pass.
func (s *scope) wasOverBudget() bool {
	c := conditions.Get(s.before, conditions.Stalled)
	return c != nil && conditions.IsTrue(s.before, conditions.Stalled) && c.Reason == kaitov1alpha1.ReasonBudgetExceeded
}

// noteWaiting remembers whether the Workspace waits for room, after a pass that has come to its end. Nothing is created
// any more in such a pass: what an earlier one has left reserved is free again.
func (r *Reconciler) noteWaiting(ctx context.Context, s *scope) {
	name := client.ObjectKeyFromObject(s.workspace)
	if len(s.budgets) == 0 || !s.overBudget() {
		r.room.leave(name)
	}
	if r.room.release(name) {
		r.room.tell(ctx, name.Namespace)
	}
	if s.overBudget() != s.wasOverBudget() {
		r.room.note(ctx, name.Namespace)
	}
}

// forgetRoom is for a Workspace that is gone: it neither waits nor holds room any more.
func (r *Reconciler) forgetRoom(ctx context.Context, name types.NamespacedName) {
	r.room.leave(name)
	r.room.release(name)
	r.room.tell(ctx, name.Namespace)
	r.room.note(ctx, name.Namespace)
}
