// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/pool"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Reasons that are the Machine's and not the provider's.
const (
	ReasonInvalidMachine = "InvalidMachine"
	ReasonNameTaken      = "NameTaken"
	// ReasonLaunchTimeout: core gave the claim up, since it got no machine in time.
	ReasonLaunchTimeout = "LaunchTimeout"
	// ReasonNodeGone: the claim was deleted, and not by us: by a person, by node repair, or since its Node or VM has gone.
	ReasonNodeGone = "NodeGone"
	reasonPending  = "AwaitingReconciliation"
)

// pairs are the Machine's conditions with the NodeClaim's that they mirror, in the order in which they become True.
var pairs = []struct{ machine, claim string }{
	{karpenterv1alpha5.ConditionMachineLaunched, karpv1.ConditionTypeLaunched},
	{karpenterv1alpha5.ConditionMachineRegistered, karpv1.ConditionTypeRegistered},
	{karpenterv1alpha5.ConditionMachineInitialized, karpv1.ConditionTypeInitialized},
}

// statusWriter edits a Machine's status in memory.
type statusWriter struct {
	machine *karpenterv1alpha5.Machine
	clock   clock.PassiveClock
}

func newStatus(m *karpenterv1alpha5.Machine, c clock.PassiveClock) *statusWriter {
	return &statusWriter{machine: m, clock: c}
}

// follow mirrors a claim that is there.
func (s *statusWriter) follow(claim *karpv1.NodeClaim) {
	st := &s.machine.Status
	st.NodeName = cmp.Or(claim.Status.NodeName, st.NodeName)
	st.ProviderID = cmp.Or(claim.Status.ProviderID, st.ProviderID)
	if len(claim.Status.Capacity) > 0 {
		st.Capacity = claim.Status.Capacity
	}
	if len(claim.Status.Allocatable) > 0 {
		st.Allocatable = claim.Status.Allocatable
	}
	for _, pair := range pairs {
		c := find(claim, pair.claim)
		if c == nil {
			s.set(pair.machine, corev1.ConditionUnknown, reasonPending, "")
			continue
		}
		s.set(pair.machine, corev1.ConditionStatus(c.Status), c.Reason, c.Message)
	}
	if c := find(claim, pool.ConditionPoolManaged); c != nil {
		s.set(pool.ConditionPoolManaged, corev1.ConditionStatus(c.Status), c.Reason, c.Message)
	}
	if failure, ok := pool.FailureOf(claim); ok {
		s.set(karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, failure.Reason, failure.Message)
		return
	}
	if !claim.DeletionTimestamp.IsZero() {
		s.gone()
	}
}

// gone turns the first condition that is not True into the verdict: what the claim lacked when it went.
func (s *statusWriter) gone() {
	for _, pair := range pairs {
		c := s.machine.GetCondition(pair.machine)
		if c != nil && c.Status == corev1.ConditionFalse {
			return // the verdict is there
		}
	}
	for _, pair := range pairs {
		c := s.machine.GetCondition(pair.machine)
		switch {
		case c != nil && c.Status == corev1.ConditionTrue:
			continue
		case pair.machine == karpenterv1alpha5.ConditionMachineLaunched:
			reason, message := ReasonLaunchTimeout, "the claim got no machine in time"
			if c != nil && c.Reason != "" && c.Reason != reasonPending && c.Reason != pool.ReasonLaunching {
				reason = c.Reason
			}
			if c != nil && c.Message != "" {
				message += "; the last state was: " + c.Message
				if reason == c.Reason {
					message = c.Message
				}
			}
			s.set(pair.machine, corev1.ConditionFalse, reason, message)
		case pair.machine == karpenterv1alpha5.ConditionMachineRegistered:
			s.neverRegistered()
		default:
			message := "the node was given up before it was initialized"
			if c != nil && c.Message != "" {
				message += ": " + c.Message
			}
			s.set(pair.machine, corev1.ConditionFalse, ReasonNodeGone, message)
		}
		return
	}
	s.set(karpenterv1alpha5.ConditionMachineRegistered, corev1.ConditionFalse, ReasonNodeGone, fmt.Sprintf(
		"the claim of node %s was deleted: by a person, by node repair, or since its VM %s has gone",
		s.machine.Status.NodeName,
		s.machine.Status.ProviderID,
	))
}

// neverRegistered: the provisioner says why before it gives a machine up, so this claim was deleted by somebody else:
// by core at its timeout, when no provisioner ran to be earlier, or by a person, or by core because the Node was
// deleted.
func (s *statusWriter) neverRegistered() {
	launched := s.machine.GetCondition(karpenterv1alpha5.ConditionMachineLaunched)
	if s.clock.Since(launched.LastTransitionTime.Time) >= pool.CoreRegistrationTimeout {
		s.set(karpenterv1alpha5.ConditionMachineRegistered, corev1.ConditionFalse, pool.ReasonNodeNeverJoined, fmt.Sprintf(
			"no Node of the machine %s had registered after %s", s.machine.Status.ProviderID, pool.CoreRegistrationTimeout))
		return
	}
	s.set(karpenterv1alpha5.ConditionMachineRegistered, corev1.ConditionFalse, ReasonNodeGone, fmt.Sprintf(
		"the claim of the machine %s was deleted before its Node had registered: by a person, or since the Node or the VM has gone",
		s.machine.Status.ProviderID,
	))
}

// ready computes the verdict: False when one condition is, True when all are.
func (s *statusWriter) ready() {
	status, reason, message := corev1.ConditionTrue, karpenterv1alpha5.ConditionReady, ""
	for _, pair := range pairs {
		c := s.machine.GetCondition(pair.machine)
		if c == nil {
			s.set(pair.machine, corev1.ConditionUnknown, reasonPending, "")
			c = s.machine.GetCondition(pair.machine)
		}
		if c.Status == corev1.ConditionTrue || status == corev1.ConditionFalse {
			continue
		}
		if status == corev1.ConditionTrue || c.Status == corev1.ConditionFalse {
			status, reason, message = c.Status, c.Reason, c.Message
		}
	}
	s.set(karpenterv1alpha5.ConditionReady, status, reason, message)
}

// set writes one condition; the transition's time moves with the status alone.
func (s *statusWriter) set(conditionType string, status corev1.ConditionStatus, reason, message string) {
	c := karpenterv1alpha5.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            message,
		LastTransitionTime: metav1.NewTime(s.clock.Now().Truncate(1e9)),
	}
	if status == corev1.ConditionTrue && message == "" {
		c.Reason = "" // as core v0.31 had it
	}
	conditions := s.machine.Status.Conditions
	i := slices.IndexFunc(conditions, func(c karpenterv1alpha5.Condition) bool { return c.Type == conditionType })
	if i < 0 {
		s.machine.Status.Conditions = append(conditions, c)
		return
	}
	if conditions[i].Status == status {
		c.LastTransitionTime = conditions[i].LastTransitionTime
	}
	conditions[i] = c
}

func find(claim *karpv1.NodeClaim, conditionType string) *status.Condition {
	for i := range claim.Status.Conditions {
		if claim.Status.Conditions[i].Type == conditionType {
			return &claim.Status.Conditions[i]
		}
	}
	return nil
}
