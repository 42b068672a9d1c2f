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
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/placement"
)

// One Machine or NodeClaim asks for one node, and its deletion releases the node.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines;nodeclaims,verbs=list;watch;create;delete

// place asks for the nodes that are missing, releases those that are too many, and says whether all are usable.
func (r *Reconciler) place(ctx context.Context, s *scope) (flow.Result, error) {
	if s.released {
		return r.releaseNodes(ctx, s)
	}
	p := s.planStatus()
	if p == nil {
		s.resource, s.claims = s.unplaced(), s.unplaced()
		return flow.Stop(), nil
	}
	s.chooseOwn(r, int(p.Nodes))
	kept, err := r.weed(ctx, s, int(p.Nodes)-len(s.own))
	if err != nil {
		return flow.Stop(), err
	}
	if s.blocked == nil {
		if err := r.request(ctx, s, kept, int(p.Nodes)-len(s.own)); err != nil {
			return flow.Stop(), err
		}
	}
	return s.verdict(kept, int(p.Nodes), r.options.Limits.Acknowledge), nil
}

// unplaced is the outcome of a stage that nothing could be asked for.
func (s *scope) unplaced() outcome {
	if s.blocked != nil {
		return *s.blocked
	}
	return pending
}

// weed deletes claims that have failed, are too many, or are of a choice that is not the plan's any more. It returns
// the others by ordinal.
func (r *Reconciler) weed(ctx context.Context, s *scope, want int) (map[int]placement.State, error) {
	choice := s.choice()
	kept := map[int]placement.State{}
	for _, state := range s.states {
		c := state.Claim
		if state.Phase == placement.Deleting {
			continue
		}
		_, double := kept[c.Ordinal]
		failed := state.Phase == placement.Failed || state.Phase == placement.Lost
		// Without a plan of this pass nothing is taken from what there is but what has failed.
		unwanted := s.blocked == nil && (c.Ordinal >= want || double || !sameChoice(c, choice))
		if !failed && !unwanted {
			kept[c.Ordinal] = state
			continue
		}
		log.FromContext(ctx).Info("Releasing a node", "claim", c.Name, "kind", c.Kind, "reason", state.Reason)
		if err := r.deleteClaim(ctx, c); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// leaving are the ordinals whose claim goes before its node was ever used, and nobody has said why. Another is asked
// for when it is gone, for then it counts as a failed attempt: a provider that deletes what it cannot launch would be
// asked again and again.
func (s *scope) leaving() map[int]bool {
	out := map[int]bool{}
	for _, state := range s.states {
		c := state.Claim
		if state.Phase == placement.Deleting && sameChoice(c, s.choice()) && !s.history(c).Used && !s.recorded(c) {
			out[c.Ordinal] = true
		}
	}
	return out
}

func sameChoice(c placement.Claim, choice placement.Choice) bool {
	return strings.EqualFold(c.InstanceType, choice.InstanceType) && c.CapacityType == choice.CapacityType
}

func (r *Reconciler) deleteClaim(ctx context.Context, c placement.Claim) error {
	err := r.client.Delete(ctx, c.Object, client.Preconditions{UID: &c.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another object of the name: the watch tells
	}
	if err != nil {
		return fmt.Errorf("deleting %s %s: %w", c.Kind, c.Name, err)
	}
	return nil
}

// request creates the claims that are missing.
func (r *Reconciler) request(ctx context.Context, s *scope, kept map[int]placement.State, want int) error {
	var missing []int
	leaving := s.leaving()
	for ordinal := range want {
		if _, ok := kept[ordinal]; !ok && !leaving[ordinal] {
			missing = append(missing, ordinal)
		}
	}
	s.missing, s.placed = missing, true
	if len(missing) == 0 || s.workspace.Resource.Provisioning == kaitov1alpha1.ProvisioningNever || s.api == nil {
		return nil
	}
	if err := placement.CheckLabels(s.request(missing[0], nil)); err != nil {
		s.block(stuck(kaitov1alpha1.ReasonInvalidSpec, err.Error()))
		return nil
	}
	if s.plan == nil {
		// The plan that holds says what to ask for, but not how large the size is: ask again. The budgets are asked about the
		// claims.
		question := s.question(s.stage, nil)
		question.Budgets = nil
		plan, err := r.planner.Plan(question)
		if err != nil {
			return fmt.Errorf("planning a replacement: %w", err)
		}
		s.replacement = plan
	}
	s.placed = false
	requests := s.requests(missing)
	if allowed, err := r.admit(ctx, s, requests, want); err != nil || !allowed {
		return err
	}
	err := r.createAll(ctx, s, requests)
	r.settle(ctx, s, err)
	if err != nil {
		return err
	}
	s.missing, s.placed, s.asked = nil, true, true
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.NodesRequested }, s.now)
	return nil
}

// admit says whether the claims may be created, and sets what refuses them: the operator's limit, the namespace's
// budgets, and what the API server would say to the pods. What costs no request comes first, and the budget's room is
// reserved last.
func (r *Reconciler) admit(ctx context.Context, s *scope, requests []placement.Request, want int) (bool, error) {
	if most := r.options.MaxNodes; want > most {
		o := stuck(kaitov1alpha1.ReasonTooManyNodes, fmt.Sprintf(
			"the plan has %d new nodes of size %s, and a Workspace may have at most %d (--max-nodes-per-workspace of the workspace-operator): lower resource.count, choose a size with more GPU memory, or ask who runs the operator to raise the limit",
			want,
			s.choice().InstanceType,
			most,
		))
		s.refused = &o
		return false, nil
	}
	excess, err := r.foreseen(ctx, s, requests)
	if err == nil && excess == nil {
		if err = r.preflight(ctx, s); err != nil || s.refused != nil {
			return false, err
		}
		excess, err = r.reserve(ctx, s, requests)
	}
	if excess != nil {
		s.exceed(excess)
	}
	return err == nil && excess == nil, err
}

// requests are the nodes of the ordinals.
func (s *scope) requests(ordinals []int) []placement.Request {
	plan := s.plan
	if plan == nil {
		plan = s.replacement
	}
	var out []placement.Request
	for _, ordinal := range ordinals {
		out = append(out, s.request(ordinal, plan))
	}
	return out
}

func (r *Reconciler) createAll(ctx context.Context, s *scope, requests []placement.Request) error {
	for _, request := range requests {
		if err := r.create(ctx, s, request); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) create(ctx context.Context, s *scope, request placement.Request) error {
	claim := s.api.Build(request)
	log.FromContext(ctx).
		Info("Asking for a node", "claim", claim.GetName(), "kind", s.api.Kind(), "instanceType", request.InstanceType, "capacityType", request.CapacityType)
	err := r.client.Create(ctx, claim)
	if apierrors.IsAlreadyExists(err) {
		return nil // a pass from an older cache: the watch will show it
	}
	if err != nil {
		s.resource = no(
			kaitov1alpha1.ReasonLaunchFailed,
			fmt.Sprintf("the API server refuses %s %s: %v", s.api.Kind(), claim.GetName(), err),
		)
		s.claims = s.resource
		return fmt.Errorf("creating %s %s: %w", s.api.Kind(), claim.GetName(), err)
	}
	return nil
}

// request is one node that is wanted. Without a plan it lacks what the size has.
func (s *scope) request(ordinal int, plan *Plan) placement.Request {
	w, choice := s.workspace, s.choice()
	request := placement.Request{
		Name: w.Name, Namespace: w.Namespace, UID: w.UID,
		Ordinal: ordinal, Attempt: s.attempt(ordinal),
		InstanceType: choice.InstanceType, CapacityType: choice.CapacityType,
	}
	if plan != nil {
		request.GPUs, request.DiskGiB = plan.SizeGPUs, plan.DiskGiB
	}
	if w.Resource.LabelSelector != nil {
		request.Labels = w.Resource.LabelSelector.MatchLabels
	}
	return request
}

// attempt is the number of failed attempts, and more than that of any claim of the ordinal that is still there, so that
// names differ.
func (s *scope) attempt(ordinal int) int {
	attempt := len(s.workspace.Status.Attempts)
	for _, state := range s.states {
		if state.Claim.Ordinal == ordinal {
			attempt = max(attempt, state.Claim.Attempt+1)
		}
	}
	return attempt
}

// verdict says whether all nodes are usable, and why not. The first claim that has something to say speaks for all.
func (s *scope) verdict(kept map[int]placement.State, want int, acknowledge time.Duration) flow.Result {
	var recheck time.Duration
	if s.asked {
		recheck = acknowledge // nobody announces that nobody answers
	}
	recheck = soonest(recheck, s.recheck)
	s.nodes = append([]corev1.Node(nil), s.own...)
	var waiting, wrong *placement.State
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
		default:
			waiting = &state
		}
	}
	s.resource = s.judged(want, waiting, wrong)
	s.claims = s.resource
	if s.resource.ok() {
		s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.NodesReady }, s.now)
	}
	if recheck > 0 {
		return flow.ContinueUntil(recheck)
	}
	return flow.Continue()
}

func (s *scope) judged(want int, waiting, wrong *placement.State) outcome {
	choice := s.choice()
	have := len(s.nodes)
	switch {
	case have >= want:
		return yes(
			kaitov1alpha1.ReasonReady, fmt.Sprintf("%d of %d nodes of size %s are usable", have, want, choice.InstanceType),
		)
	case s.refused != nil:
		return *s.refused
	case wrong != nil && wrong.Phase == placement.Ignored:
		return stuck(wrong.Reason, wrong.Message)
	case wrong != nil:
		return no(wrong.Reason, wrong.Message)
	case len(s.down) > 0:
		return no(kaitov1alpha1.ReasonNodeLost, placement.Unusable(&s.down[0], 1))
	case s.blocked != nil:
		return *s.blocked
	case len(s.missing) > 0 && s.workspace.Resource.Provisioning == kaitov1alpha1.ProvisioningNever:
		return stuck(kaitov1alpha1.ReasonNoMatchingNode, fmt.Sprintf(
			"resource.provisioning is Never, and %d of %d nodes are there: add nodes with GPUs that match resource.labelSelector, or set provisioning to Auto",
			have,
			want,
		))
	case len(s.missing) > 0 && s.api == nil:
		return stuck(
			kaitov1alpha1.ReasonNodeAPIMissing,
			"the cluster serves neither karpenter.sh/v1alpha5 Machine nor karpenter.sh/v1 NodeClaim (or --node-api excludes the one that it serves): "+
				"install a provisioner, for instance gpu-provisioner, or bring your own nodes and set resource.provisioning to Never",
		)
	}
	return no(
		kaitov1alpha1.ReasonProvisioning,
		fmt.Sprintf("%d nodes of size %s (%s) are asked for", want, choice.InstanceType, choice.CapacityType),
	)
}

// releaseNodes gives all nodes back: nothing runs on them any more, or nothing should.
func (r *Reconciler) releaseNodes(ctx context.Context, s *scope) (flow.Result, error) {
	s.chooseOwn(r, 0)
	for _, state := range s.states {
		if state.Phase == placement.Deleting {
			continue
		}
		if err := r.deleteClaim(ctx, state.Claim); err != nil {
			return flow.Stop(), err
		}
	}
	reason, message := kaitov1alpha1.ReasonScaledToZero, "resource.count is 0: no nodes are wanted"
	if s.failedTuning {
		s.resource = no(
			kaitov1alpha1.ReasonNotNeeded,
			fmt.Sprintf(
				"the TuningJob has failed, and the nodes are released: they are asked for again when TuningJob %s/%s is deleted, which repeats the run",
				s.workspace.Namespace, s.workspace.Name,
			),
		)
		s.claims = s.resource
		return flow.Continue(), nil
	}
	if s.tuning() && s.tunedAlready() && !s.serves() {
		reason, message = kaitov1alpha1.ReasonNotNeeded, "the model is tuned and tuning.serve is Never: the nodes are released"
	}
	s.resource, s.claims = yes(reason, message), yes(reason, message)
	return flow.Continue(), nil
}
