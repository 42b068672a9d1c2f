// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Phase is the state of a claim and its node.
type Phase int

const (
	// Waiting: the provider is working on the claim.
	Waiting Phase = iota
	// Ignored: no provisioner has acknowledged the claim in time.
	Ignored
	// Failed: the provider has given it up, or its node never became usable in time.
	Failed
	// Usable: the claim is Ready, the Node is Ready, and its GPUs can be allocated.
	Usable
	// Lost: the node was usable and is not any more.
	Lost
	// Deleting: the claim is being deleted.
	Deleting
)

// State is a claim, its node, and their phase.
type State struct {
	Claim Claim
	Node  *corev1.Node
	Phase Phase
	// Reason and Message say why it is not usable; both are empty while nothing is wrong.
	Reason, Message string
	// Recheck is when the state changes without an event; 0: never.
	Recheck time.Duration
}

// Limits bound how long a state may last.
type Limits struct {
	// Acknowledge is how long a claim may stay without any condition.
	Acknowledge time.Duration
	// GPUReady is how long a node that has joined may stay without its GPUs.
	GPUReady time.Duration
	// NodeLost is how long a node that was in use may stay not Ready before it is replaced.
	NodeLost time.Duration
}

// quiet are the reasons that providers give while nothing is wrong. Any other reason of a claim that is not launched is
// reported.
var quiet = map[string]bool{
	"":                       true,
	"AwaitingReconciliation": true,
	"Launching":              true,
	"Pending":                true,
	"InProgress":             true,
}

// History is what the status of the Workspace says about a claim's node.
type History struct {
	// Used: the node had been usable.
	Used bool
	// Lost is since when the Workspace has been without all its nodes; zero while it is not.
	Lost time.Time
}

// Assess judges one claim. node is its Node, nil when there is none; gpus is what the size has.
func Assess(claim Claim, node *corev1.Node, gpus int64, past History, limits Limits, now time.Time) State {
	s := State{Claim: claim, Node: node}
	switch {
	case claim.Deleting:
		s.Phase = Deleting
	case !claim.Acknowledged:
		s.ignored(limits, now)
	case s.givenUp(past):
	case !claim.Registered.True():
		if !claim.Launched.True() && !quiet[claim.Launched.Reason] {
			s.Reason, s.Message = claim.Launched.Reason, claim.Launched.Message
		}
	default:
		s.joined(gpus, past, limits, now)
	}
	return s
}

func (s *State) givenUp(past History) bool {
	reason, message, failed := s.Claim.Failure()
	if !failed {
		return false
	}
	s.Phase, s.Reason, s.Message = Failed, reason, message
	if past.Used {
		s.Phase, s.Reason = Lost, kaitov1alpha1.ReasonNodeLost
		s.Message = fmt.Sprintf("node %s is lost: %s: %s", s.Claim.NodeName, reason, message)
	}
	return true
}

func (s *State) ignored(limits Limits, now time.Time) {
	if left := limits.Acknowledge - now.Sub(s.Claim.Created); left > 0 {
		s.Recheck = left
		return
	}
	s.Phase, s.Reason = Ignored, kaitov1alpha1.ReasonNoProvisioner
	s.Message = fmt.Sprintf(
		"%s %s has no condition after %s, so no provisioner watches it: install a provisioner for this kind (gpu-provisioner, or any other of Karpenter's API), "+
			"or set --node-api or --node-class of the workspace-operator for the provisioner that is installed",
		s.Claim.Kind,
		s.Claim.Name,
		limits.Acknowledge,
	)
}

// joined judges a claim whose Node has registered.
func (s *State) joined(gpus int64, past History, limits Limits, now time.Time) {
	why := unusable(s.Claim, s.Node, gpus)
	switch {
	case why == "":
		s.Phase = Usable
	case past.Used:
		s.lost(why, past, limits, now)
	default:
		since := s.Claim.Registered.Since
		if since.IsZero() {
			since = s.Claim.Created
		}
		if left := limits.GPUReady - now.Sub(since); left > 0 {
			s.Recheck = left
			return
		}
		s.Phase, s.Reason = Failed, kaitov1alpha1.ReasonAcceleratorNotReady
		s.Message = fmt.Sprintf("%s: not within %s of joining", why, limits.GPUReady)
	}
}

func (s *State) lost(why string, past History, limits Limits, now time.Time) {
	s.Reason, s.Message = kaitov1alpha1.ReasonNodeLost, why
	if s.Node == nil || s.Node.DeletionTimestamp != nil {
		s.Phase = Lost
		return
	}
	if left := limits.NodeLost - now.Sub(lostSince(s.Node, past, now)); left > 0 {
		s.Recheck = left
		return
	}
	s.Phase = Lost
	s.Message = fmt.Sprintf("%s for more than %s", why, limits.NodeLost)
}

// lostSince is when the Node became not Ready. Of a Node that is Ready and has lost its GPUs (a device plugin that
// restarts does that for a while) nothing tells since when, so the Workspace's own condition counts.
func lostSince(node *corev1.Node, past History, now time.Time) time.Time {
	if c := readyCondition(node); c != nil && c.Status != corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	if past.Lost.IsZero() {
		return now
	}
	return past.Lost
}

// unusable says what a joined node lacks; empty: nothing.
func unusable(claim Claim, node *corev1.Node, gpus int64) string {
	name := claim.NodeName
	switch {
	case node == nil && name == "":
		return fmt.Sprintf("%s %s has no node", claim.Kind, claim.Name)
	case node == nil:
		return fmt.Sprintf("node %s is gone", name)
	}
	if why := Unusable(node, gpus); why != "" {
		return why
	}
	if !claim.Ready.True() {
		return fmt.Sprintf(
			"%s %s is not Ready: %s %s", claim.Kind, claim.Name, claim.Initialized.Reason, claim.Initialized.Message,
		)
	}
	return ""
}

// Unusable says what a Node lacks to hold gpus GPUs; empty: nothing.
func Unusable(node *corev1.Node, gpus int64) string {
	if node.DeletionTimestamp != nil {
		return fmt.Sprintf("node %s is being deleted", node.Name)
	}
	if c := readyCondition(node); c == nil || c.Status != corev1.ConditionTrue {
		message := "no condition says so"
		if c != nil {
			message = fmt.Sprintf("%s %s", c.Reason, c.Message)
		}
		return fmt.Sprintf("node %s is not Ready: %s", node.Name, message)
	}
	allocatable := node.Status.Allocatable[kaitov1alpha1.ResourceNvidiaGPU]
	if got := allocatable.Value(); got < gpus {
		return fmt.Sprintf(
			"node %s has %d of %d GPUs allocatable: see NVIDIA's device plugin and driver on it", node.Name, got, gpus,
		)
	}
	return ""
}

func readyCondition(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

// Failure says why a provider has given the claim up, and whether it has: a condition is False. Unknown is still being
// worked at; a provider that gives up says False, or deletes the claim.
func (c Claim) Failure() (reason, message string, failed bool) {
	for _, condition := range []Condition{c.Launched, c.Registered, c.Initialized} {
		if condition.Status != corev1.ConditionFalse || quiet[condition.Reason] {
			continue
		}
		message = condition.Message
		if message == "" {
			message = fmt.Sprintf("%s %s failed and gave no message", c.Kind, c.Name)
		}
		return condition.Reason, message, true
	}
	return "", "", false
}

// LastWords is why a claim that is on its way out failed, as far as it says: a provider that gives up need not make a
// condition False before it deletes the claim.
func (c Claim) LastWords() (reason, message string, told bool) {
	if reason, message, told = c.Failure(); told {
		return reason, message, true
	}
	if c.Launched.True() || quiet[c.Launched.Reason] {
		return "", "", false
	}
	return c.Launched.Reason, c.Launched.Message, true
}
