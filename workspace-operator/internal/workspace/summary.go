// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/workspace-operator/internal/placement"
)

// reasonRetrying is Reconciling's reason after a pass that failed for something that goes by itself.
const reasonRetrying = "Retrying"

// verdict is what all stages come to.
type verdict struct {
	outcome
	ready bool
	state kaitov1alpha1.State
}

// summarize turns what the stages have come to into the status: all conditions every time, and one verdict. After a
// failed pass what was not looked at stays as it was.
func (s *scope) summarize(failed error) {
	w := s.workspace
	if p := s.planStatus(); p != nil {
		w.Status.Plan = p.DeepCopy()
	}
	s.condition(kaitov1alpha1.ConditionResourceReady, s.resource, failed)
	if c := s.claimCondition(); c != "" {
		s.condition(c, s.claims, failed)
	}
	if s.tuning() {
		s.condition(kaitov1alpha1.ConditionJobStarted, s.started, failed)
	}
	s.condition(kaitov1alpha1.ConditionInferenceReady, s.inference, failed)
	if failed != nil && s.resource.status == "" {
		// Nothing was looked at: the verdict of the last pass stands, and that this one failed is said beside it.
		conditions.True(w, conditions.Reconciling, reasonRetrying, failed.Error())
		return
	}
	s.countNodes()
	v := s.overall()
	if failed != nil {
		v.message = fmt.Sprintf("%s; the last try failed and is repeated: %v", v.message, failed)
	} else {
		w.Status.ObservedGeneration = w.Generation
	}
	w.Status.State = v.state
	s.announce(v)
}

func (s *scope) announce(v verdict) {
	w := s.workspace
	switch {
	case v.ready:
		conditions.MarkReady(w, v.reason, v.message)
	case v.stalled:
		conditions.MarkStalled(w, v.reason, v.message)
		if before := conditions.Get(s.before, conditions.Stalled); before == nil || before.Status != metav1.ConditionTrue ||
			before.Reason != v.reason {
			s.warn(v.reason, v.message)
		}
	default:
		conditions.MarkReconciling(w, v.reason, v.message)
	}
	status := metav1.ConditionFalse
	if v.ready {
		status = metav1.ConditionTrue
	}
	conditions.Set(w, kaitov1alpha1.ConditionWorkspaceReady, status, v.reason, v.message)
	conditions.Set(w, kaitov1alpha1.ConditionWorkspaceSucceeded, status, v.reason, v.message)
}

func (s *scope) condition(conditionType string, o outcome, failed error) {
	switch {
	case o.status != "":
		conditions.Set(s.workspace, conditionType, o.status, o.reason, o.message)
	case failed == nil || conditions.Get(s.workspace, conditionType) == nil:
		conditions.Set(s.workspace, conditionType, pending.status, pending.reason, pending.message)
	}
}

// claimCondition is MachineReady or NodeClaimReady, by what there is, else by what would be asked for; empty when
// neither.
func (s *scope) claimCondition() string {
	if len(s.states) > 0 {
		if s.states[0].Claim.Kind == (placement.Machines{}).Kind() {
			return kaitov1alpha1.ConditionMachineReady
		}
		return kaitov1alpha1.ConditionNodeClaimReady
	}
	if s.api == nil {
		return ""
	}
	return s.api.Condition()
}

// countNodes lists the nodes in use. One that was in use and is not usable for the moment stays, so that it is known to
// have been.
func (s *scope) countNodes() {
	status := &s.workspace.Status
	var names []string
	for _, n := range s.nodes {
		names = append(names, n.Name)
	}
	for _, n := range s.down {
		names = append(names, n.Name)
	}
	for _, state := range s.live() {
		name := state.Claim.NodeName
		if slices.Contains(s.before.Status.WorkerNodes, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	status.WorkerNodes = names
	switch p := s.planStatus(); {
	case s.released:
		status.TargetNodeCount = 0
	case s.placed && p != nil:
		status.TargetNodeCount = p.Nodes
	}
}

// overall is the verdict: the first stage that has not come to its end speaks.
func (s *scope) overall() verdict {
	switch {
	case s.failedTuning:
		return s.waits(s.started, kaitov1alpha1.StateTuning)
	case s.released && len(s.states) > 0:
		return verdict{outcome: no(s.resource.reason, "the nodes are being released"), state: s.endState()}
	case s.released:
		return verdict{outcome: s.resource, ready: true, state: s.endState()}
	case s.blocked != nil:
		return s.waits(*s.blocked, kaitov1alpha1.StatePending)
	case !s.resource.ok():
		return s.waits(s.resource, kaitov1alpha1.StateProvisioning)
	case s.tuning() && !s.tunedAlready() && s.stage == StageTune:
		o := s.started
		if o.reason == kaitov1alpha1.ReasonPending || o.ok() {
			o = no(kaitov1alpha1.ReasonTuning, "the model is being tuned")
		}
		return s.waits(o, kaitov1alpha1.StateTuning)
	case !s.inference.ok():
		return s.waits(s.inference, kaitov1alpha1.StateStarting)
	}
	return verdict{outcome: s.inference, ready: true, state: kaitov1alpha1.StateRunning}
}

// waits is the verdict of a stage that goes on, or of one that needs a person.
func (s *scope) waits(o outcome, state kaitov1alpha1.State) verdict {
	if o.stalled {
		state = kaitov1alpha1.StateFailed
	}
	return verdict{outcome: o, state: state}
}

func (s *scope) endState() kaitov1alpha1.State {
	if s.tunedAlready() && !s.serves() {
		return kaitov1alpha1.StateSucceeded
	}
	return kaitov1alpha1.StateStopped
}
