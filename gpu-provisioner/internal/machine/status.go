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

// pairs maps the Machine's conditions to the NodeClaim's that they mirror, in the order in which they become True.
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

// follow mirrors the status of an existing claim.
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
			s.set(pair.machine, corev1.ConditionUnknown, karpenterv1alpha5.ReasonAwaitingReconciliation, "")
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

// gone sets the first condition that is not True to False: the step that the claim had not reached when it was deleted.
func (s *statusWriter) gone() {
	for _, pair := range pairs {
		c := s.machine.GetCondition(pair.machine)
		if c != nil && c.Status == corev1.ConditionFalse {
			return // the failure is already written
		}
	}
	for _, pair := range pairs {
		c := s.machine.GetCondition(pair.machine)
		switch {
		case c != nil && c.Status == corev1.ConditionTrue:
			continue
		case pair.machine == karpenterv1alpha5.ConditionMachineLaunched:
			reason, message := karpenterv1alpha5.ReasonLaunchTimeout, "the NodeClaim got no machine in time"
			if c != nil && c.Reason != "" && !waiting(c.Reason) {
				reason = c.Reason
			}
			if c != nil && c.Message != "" {
				message += ". Last state: " + c.Message
				if reason == c.Reason {
					message = c.Message
				}
			}
			s.set(pair.machine, corev1.ConditionFalse, reason, message)
		case pair.machine == karpenterv1alpha5.ConditionMachineRegistered:
			s.neverRegistered()
		default:
			message := "the NodeClaim was deleted before its Node was initialized"
			if c != nil && c.Message != "" {
				message += ": " + c.Message
			}
			s.set(pair.machine, corev1.ConditionFalse, karpenterv1alpha5.ReasonNodeGone, message)
		}
		return
	}
	s.fail(karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonNodeGone,
		"the NodeClaim of Node %s was deleted by a user or by node repair, or because its VM %s is gone",
		s.machine.Status.NodeName, s.machine.Status.ProviderID)
}

// neverRegistered handles a deleted claim whose Node had not registered. This operator writes a reason before it
// deletes a claim, so the claim was deleted by Karpenter at its timeout, by a user, or because the Node or the VM is
// gone.
func (s *statusWriter) neverRegistered() {
	launched := s.machine.GetCondition(karpenterv1alpha5.ConditionMachineLaunched)
	if s.clock.Since(launched.LastTransitionTime.Time) >= pool.CoreRegistrationTimeout {
		s.fail(karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonNodeNeverJoined,
			"machine %s did not register as a Node within %s",
			s.machine.Status.ProviderID, pool.CoreRegistrationTimeout)
		return
	}
	s.fail(karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ReasonNodeGone,
		"the NodeClaim of machine %s was deleted before its Node registered: by a user, or because the Node or the VM is gone",
		s.machine.Status.ProviderID)
}

// ready computes the condition Ready: False if one of the others is False, True if all are True.
func (s *statusWriter) ready() {
	status, reason, message := corev1.ConditionTrue, karpenterv1alpha5.ConditionReady, ""
	for _, pair := range pairs {
		c := s.machine.GetCondition(pair.machine)
		if c == nil {
			s.set(pair.machine, corev1.ConditionUnknown, karpenterv1alpha5.ReasonAwaitingReconciliation, "")
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

// set writes a condition. It changes the transition time only when the status changes.
func (s *statusWriter) set(conditionType string, status corev1.ConditionStatus, reason, message string) {
	c := karpenterv1alpha5.Condition{
		Type:               conditionType,
		Status:             status,
		Reason:             reason,
		Message:            message,
		LastTransitionTime: metav1.NewTime(s.clock.Now().Truncate(1e9)),
	}
	if status == corev1.ConditionTrue && message == "" {
		c.Reason = "" // as Karpenter v0.31 did
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

// waiting says whether a reason is one of a claim that has no machine yet, and of which nothing has failed.
func waiting(reason string) bool {
	return reason == karpenterv1alpha5.ReasonAwaitingReconciliation || reason == karpenterv1alpha5.ReasonLaunching
}

// fail sets a condition to False.
func (s *statusWriter) fail(condition, reason, format string, args ...any) {
	s.set(condition, corev1.ConditionFalse, reason, fmt.Sprintf(format, args...))
}
