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
	"kaito.sh/workspace-operator/internal/plan"
)

// judge records failures in the status before anything is planned: the plan depends on them, and the claim that reports
// one may be gone by the next pass.
func judge(_ context.Context, s *scope) (flow.Result, error) {
	for _, state := range s.states {
		reason, message := state.Reason, state.Message
		switch state.Phase {
		case placement.Failed, placement.Lost:
		case placement.Deleting:
			// The operator deleted it in a pass whose status was not written, or its provider gives it up: the reason remains.
			var failed bool
			if reason, message, failed = state.Claim.LastWords(); !failed {
				continue
			}
		default:
			continue
		}
		if !recorded(s, state.Claim) {
			record(s, state.Claim.Choice(), reason, claimID(state.Claim)+message)
		}
	}
	recordDeleted(s)
	return flow.Continue(), nil
}

// claimID begins the message of a claim's attempt, and so says whether the claim's failure has been recorded.
func claimID(c placement.Claim) string { return fmt.Sprintf("%s %s: ", c.Kind, c.Name) }

func recorded(s *scope, c placement.Claim) bool {
	for _, a := range s.workspace.Status.Attempts {
		if strings.HasPrefix(a.Message, claimID(c)) && !a.Time.Time.Before(c.Created) {
			return true
		}
	}
	return false
}

func record(s *scope, choice plan.Choice, reason, message string) {
	s.workspace.Status.Attempts = placement.Record(s.workspace.Status.Attempts, choice, reason, message, s.now)
	s.warn(reason, fmt.Sprintf("%s (%s): %s", choice.InstanceType, choice.CapacityType, message))
}

// recordDeleted counts a claim that no longer exists as one failed attempt: a provider may delete a claim that it
// cannot launch.
func recordDeleted(s *scope) {
	past := s.before.Status
	if !hadClaims(past.State) || past.Plan == nil ||
		s.workspace.Resource.Provisioning == kaitov1alpha1.ProvisioningNever {
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
		if s.existing.Held[name] {
			return // existing nodes: which ordinals had claims is unknown
		}
		lost = name
	}
	choice := plan.Choice{InstanceType: past.Plan.InstanceType, CapacityType: past.Plan.CapacityType}
	for ordinal := range int(past.TargetNodeCount) {
		if present[ordinal] {
			continue
		}
		if lost != "" {
			record(s, choice, kaitov1alpha1.ReasonNodeLost, fmt.Sprintf(
				"the claim of node %s has been deleted, by a person, by node repair, or because its machine is gone", lost))
			continue
		}
		reason, message := kaitov1alpha1.ReasonLaunchFailed, "it left no reason"
		c := conditions.Get(s.before, kaitov1alpha1.ConditionResourceReady)
		if c != nil && c.Reason != kaitov1alpha1.ReasonProvisioning {
			reason, message = c.Reason, c.Message
		}
		record(s, choice, reason, fmt.Sprintf(
			"the claim of node %d was deleted before its node was ready; its last message: %s", ordinal, message))
	}
}

// hadClaims returns whether a Workspace in this state has claims for all its nodes.
func hadClaims(state kaitov1alpha1.State) bool {
	switch state {
	case kaitov1alpha1.StateProvisioning, kaitov1alpha1.StateTuning, kaitov1alpha1.StateStarting,
		kaitov1alpha1.StateRunning:
		return true
	}
	return false
}
