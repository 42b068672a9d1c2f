// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"strings"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/placement"
)

// judge takes what has failed into the status, before anything is planned: the plan depends on it, and the claim that
// tells it may be gone by the next pass.
func (r *Reconciler) judge(_ context.Context, s *scope) (flow.Result, error) {
	for _, state := range s.states {
		reason, message := state.Reason, state.Message
		switch state.Phase {
		case placement.Failed, placement.Lost:
		case placement.Deleting:
			// Deleted by us after a pass whose status was not written, or by a provider that gives up: the reason is still
			// there.
			var failed bool
			if reason, message, failed = state.Claim.LastWords(); !failed {
				continue
			}
		default:
			continue
		}
		if !s.recorded(state.Claim) {
			s.record(
				placement.Choice{InstanceType: state.Claim.InstanceType, CapacityType: state.Claim.CapacityType}, reason,
				claimID(state.Claim)+message,
			)
		}
	}
	s.recordGone()
	return flow.Continue(), nil
}

// claimID begins an attempt's message, and so tells whether a claim's failure has been recorded.
func claimID(c placement.Claim) string { return fmt.Sprintf("%s %s: ", c.Kind, c.Name) }

func (s *scope) recorded(c placement.Claim) bool {
	for _, a := range s.workspace.Status.Attempts {
		if strings.HasPrefix(a.Message, claimID(c)) && !a.Time.Time.Before(c.Created) {
			return true
		}
	}
	return false
}

func (s *scope) record(choice placement.Choice, reason, message string) {
	s.workspace.Status.Attempts = placement.Record(s.workspace.Status.Attempts, choice, reason, message, "", s.now)
	s.warn(reason, fmt.Sprintf("%s (%s): %s", choice.InstanceType, choice.CapacityType, message))
}

// recordGone counts a claim that is no longer there as one failed attempt: a provider may delete a claim that it can't
// launch.
func (s *scope) recordGone() {
	past := s.before.Status
	if !asked(past.State) || past.Plan == nil || s.workspace.Resource.Provisioning == kaitov1alpha1.ProvisioningNever {
		return
	}
	present := map[int]bool{}
	names := map[string]bool{}
	for _, state := range s.states {
		present[state.Claim.Ordinal] = true
		names[state.Claim.NodeName] = true
	}
	lost := ""
	for _, name := range past.WorkerNodes {
		if names[name] {
			continue
		}
		if s.held[name] {
			return // nodes that were there: which ordinals had claims can't be told
		}
		lost = name
	}
	choice := placement.Choice{InstanceType: past.Plan.InstanceType, CapacityType: past.Plan.CapacityType}
	for ordinal := range int(past.TargetNodeCount) {
		if present[ordinal] {
			continue
		}
		if lost != "" {
			s.record(
				choice,
				kaitov1alpha1.ReasonNodeLost,
				fmt.Sprintf(
					"the claim of node %s has been deleted, by a person, by node repair, or since its machine has gone", lost,
				),
			)
			continue
		}
		reason, message := kaitov1alpha1.ReasonLaunchFailed, "it left no reason"
		if c := conditions.Get(s.before, kaitov1alpha1.ConditionResourceReady); c != nil &&
			c.Reason != kaitov1alpha1.ReasonProvisioning {
			reason, message = c.Reason, c.Message
		}
		s.record(
			choice,
			reason,
			fmt.Sprintf(
				"the claim of node %d has been deleted before its node was ready; the last that was seen of it: %s", ordinal,
				message,
			),
		)
	}
}

// asked says whether a Workspace in this state has claims for all its nodes.
func asked(state kaitov1alpha1.State) bool {
	switch state {
	case kaitov1alpha1.StateProvisioning,
		kaitov1alpha1.StateTuning,
		kaitov1alpha1.StateStarting,
		kaitov1alpha1.StateRunning:
		return true
	}
	return false
}
