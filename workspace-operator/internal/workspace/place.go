// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/recent"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/gpubudget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/plan"
)

// placer asks for the nodes that are missing, releases nodes that are not needed, and reports whether all are usable.
type placer struct {
	client       client.Client
	planner      planner
	preflight    preflight
	ledger       *gpubudget.Ledger
	reservations *placement.Reservations
	maxNodes     int
	// acknowledge is how long a claim may stay without any condition.
	acknowledge time.Duration
}

func (p placer) place(ctx context.Context, s *scope) (flow.Result, error) {
	if s.released {
		return p.releaseAll(ctx, s)
	}
	wanted := s.planStatus()
	if wanted == nil {
		s.resource = s.blockedOr(pending)
		s.claims = s.resource
		return flow.Stop(), nil
	}
	total := int(wanted.Nodes)
	p.chooseExisting(s, total)
	want := total - len(s.own)
	kept, surplus := placement.Sort(s.states, want, s.choice(), s.blocked == nil)
	for _, state := range surplus {
		log.FromContext(ctx).Info("Releasing a node",
			"claim", state.Claim.Name, "kind", state.Claim.Kind, "reason", state.Reason)
		if err := placement.Delete(ctx, p.client, state.Claim); err != nil {
			return flow.Stop(), err
		}
	}
	if s.blocked == nil {
		if err := p.createMissing(ctx, s, kept, want); err != nil {
			return flow.Stop(), err
		}
	}
	return p.report(s, kept, total), nil
}

// chooseExisting takes existing nodes, as many as are wanted.
func (p placer) chooseExisting(s *scope, want int) {
	uid := s.workspace.UID
	s.own = s.existing.Choose(placement.Selection{
		Want: want, Size: s.choice().InstanceType, Preferred: s.workspace.Resource.PreferredNodes,
		OnlyHeld: s.blocked != nil,
		Take:     func(name string) bool { return p.reservations.Take(name, uid) },
	})
	if len(s.own) >= want {
		s.existing.Down = nil // other nodes replace them
	}
	names := map[string]bool{}
	for _, n := range append(append([]corev1.Node(nil), s.own...), s.existing.Down...) {
		names[n.Name] = true
	}
	p.reservations.Keep(uid, names)
}

// createMissing creates the claims that are missing, after everything that may refuse them has been asked.
func (p placer) createMissing(ctx context.Context, s *scope, kept map[int]placement.State, want int) error {
	s.missing, s.placed = placement.Missing(kept, beingDeleted(s), want), true
	if len(s.missing) == 0 || s.workspace.Resource.Provisioning == kaitov1alpha1.ProvisioningNever || s.api == nil {
		return nil
	}
	requests, err := p.requests(s)
	if err != nil {
		return err
	}
	if err := placement.CheckLabels(requests[0]); err != nil {
		s.block(stalled(kaitov1alpha1.ReasonInvalidSpec, err.Error()))
		return nil
	}
	s.placed = false
	wish := gpubudget.Wish{Workspace: s.key(), Budgets: s.budgets, Requests: requests}
	if allowed, err := p.admit(ctx, s, wish, want); err != nil || !allowed {
		return err
	}
	err = p.createAll(ctx, s, requests)
	p.ledger.Settle(wish, err)
	if err != nil {
		return err
	}
	s.missing, s.placed, s.asked = nil, true, true
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.NodesRequested }, s.now)
	return nil
}

// beingDeleted returns the ordinals whose claim is being deleted before its node was ever used, for an unknown reason.
// A new claim is created when it is gone, because then it counts as a failed attempt: a provider that deletes what it
// cannot launch would otherwise be asked again and again.
func beingDeleted(s *scope) map[int]bool {
	out := map[int]bool{}
	for _, state := range s.states {
		c := state.Claim
		if state.Phase == placement.Deleting && c.Is(s.choice()) && !historyOf(s, c).Used && !recorded(s, c) {
			out[c.Ordinal] = true
		}
	}
	return out
}

// requests returns the requests for the missing ordinals. Where the plan in the status is valid, the catalogue still
// has to say how large its size is.
func (p placer) requests(s *scope) ([]placement.Request, error) {
	made := s.plan
	if made == nil {
		request := p.planner.request(s, s.stage)
		request.Resting, request.Forbidden = nil, nil // the budgets are asked about the claims
		var err error
		if made, err = plan.Make(request, p.planner.catalog, p.planner.engine); err != nil {
			return nil, fmt.Errorf("planning a replacement: %w", err)
		}
	}
	w, choice := s.workspace, s.choice()
	var out []placement.Request
	for _, ordinal := range s.missing {
		r := placement.Request{
			Name: w.Name, Namespace: w.Namespace, UID: w.UID,
			Ordinal: ordinal, Attempt: placement.NextAttempt(s.states, len(w.Status.Attempts), ordinal),
			InstanceType: choice.InstanceType, CapacityType: choice.CapacityType,
			GPUs: int64(made.Size.GPUs), DiskGiB: int64(made.DiskGiB),
		}
		if w.Resource.LabelSelector != nil {
			r.Labels = w.Resource.LabelSelector.MatchLabels
		}
		out = append(out, r)
	}
	return out, nil
}

// admit returns whether the claims may be created, and sets s.refused where not: by the operator's limit, the
// namespace's budgets, or what the API server would answer to the pods. What costs no request comes first, and the
// budget's room is reserved last.
func (p placer) admit(ctx context.Context, s *scope, wish gpubudget.Wish, want int) (bool, error) {
	if want > p.maxNodes {
		o := stalled(kaitov1alpha1.ReasonTooManyNodes, fmt.Sprintf(
			"the plan has %d new nodes of size %s, and a Workspace may have at most %d (--max-nodes-per-workspace of the "+
				"workspace-operator): lower resource.count, choose a size with more GPU memory, or ask the administrator of "+
				"the operator to raise the limit", want, s.choice().InstanceType, p.maxNodes))
		s.refused = &o
		return false, nil
	}
	excess, err := p.ledger.Foresee(ctx, wish)
	uncached := false
	if err == nil && excess == nil {
		if err = p.preflight.check(ctx, s); err != nil || s.refused != nil {
			return false, err
		}
		excess, uncached, err = p.ledger.Reserve(ctx, wish)
	}
	if excess != nil {
		exceed(s, excess)
		if uncached {
			// The cache does not show yet what uses the room, and after a broken watch it may never do: look once more.
			s.recheck = soonest(s.recheck, recent.Horizon)
		}
	}
	return err == nil && excess == nil, err
}

// exceed stalls the Workspace. While the numbers stay the same the message stays the same too: a change of which
// Workspaces use the room then costs no write for each Workspace that waits.
func exceed(s *scope, excess *budget.Excess) {
	message := excess.String()
	c := conditions.Get(s.before, kaitov1alpha1.ConditionResourceReady)
	if c != nil && c.Reason == kaitov1alpha1.ReasonBudgetExceeded && strings.HasPrefix(c.Message, excess.What+". ") {
		message = c.Message
	}
	o := stalled(kaitov1alpha1.ReasonBudgetExceeded, message)
	s.refused = &o
}

func (p placer) createAll(ctx context.Context, s *scope, requests []placement.Request) error {
	for _, request := range requests {
		claim := s.api.Build(request)
		log.FromContext(ctx).Info("Asking for a node", "claim", claim.GetName(), "kind", s.api.Kind(),
			"instanceType", request.InstanceType, "capacityType", request.CapacityType)
		err := p.client.Create(ctx, claim)
		if err == nil || apierrors.IsAlreadyExists(err) {
			continue // an existing one is from a pass with older caches: the watch will show it
		}
		s.resource = unfinished(kaitov1alpha1.ReasonLaunchFailed, fmt.Sprintf(
			"the API server refuses %s %s: %v", s.api.Kind(), claim.GetName(), err))
		s.claims = s.resource
		return fmt.Errorf("creating %s %s: %w", s.api.Kind(), claim.GetName(), err)
	}
	return nil
}

// report says whether all nodes are usable, and why not. The first claim with a reason speaks for all.
func (p placer) report(s *scope, kept map[int]placement.State, want int) flow.Result {
	recheck := s.recheck
	if s.asked {
		recheck = soonest(recheck, p.acknowledge) // no event says that no provisioner answers
	}
	s.nodes = append([]corev1.Node(nil), s.own...)
	var wrong *placement.State
	for ordinal := range want {
		state, ok := kept[ordinal]
		if !ok {
			continue
		}
		recheck = soonest(recheck, state.Recheck)
		switch {
		case state.Phase == placement.Usable:
			s.nodes = append(s.nodes, *state.Node)
		case state.Reason != "" && (wrong == nil || state.Phase == placement.Ignored):
			wrong = &state
		}
	}
	s.resource = verdictOnNodes(s, want, wrong)
	s.claims = s.resource
	if s.resource.ok() {
		s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.NodesReady }, s.now)
	}
	return flow.ContinueUntil(recheck)
}

// releaseAll releases all nodes: no node is wanted.
func (p placer) releaseAll(ctx context.Context, s *scope) (flow.Result, error) {
	p.chooseExisting(s, 0)
	for _, state := range s.states {
		if state.Phase == placement.Deleting {
			continue
		}
		if err := placement.Delete(ctx, p.client, state.Claim); err != nil {
			return flow.Stop(), err
		}
	}
	switch {
	case s.job.failed():
		s.resource = unfinished(kaitov1alpha1.ReasonNotNeeded, fmt.Sprintf(
			"the TuningJob has failed, and the nodes are released. Delete TuningJob %s to repeat the run: nodes are then "+
				"requested again", s.key()))
	case s.tunes() && s.tuned() && !s.serves():
		s.resource = succeeded(kaitov1alpha1.ReasonNotNeeded,
			"the model is tuned and tuning.serve is Never: the nodes are released")
	default:
		s.resource = succeeded(kaitov1alpha1.ReasonScaledToZero, "resource.count is 0: no nodes are wanted")
	}
	s.claims = s.resource
	return flow.Continue(), nil
}
