// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/plan"
)

var (
	now    = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	limits = placement.Limits{Acknowledge: 2 * time.Minute, GPUReady: 15 * time.Minute, NodeLost: 5 * time.Minute}
)

func is(status corev1.ConditionStatus, reason, message string, ago time.Duration) placement.Condition {
	return placement.Condition{Status: status, Reason: reason, Message: message, Since: now.Add(-ago)}
}

// claim is one that was made ten minutes ago and whose node joined ago.
func claim(edit func(*placement.Claim)) placement.Claim {
	c := placement.Claim{
		Kind:         "Machine",
		Name:         "ws1",
		Created:      now.Add(-10 * time.Minute),
		NodeName:     "n",
		Acknowledged: true,
		GPUs:         2,
		Launched:     is("True", "", "", 9*time.Minute),
		Registered:   is("True", "", "", 5*time.Minute),
		Initialized:  is("True", "", "", time.Minute),
		Ready:        is("True", "", "", time.Minute),
	}
	if edit != nil {
		edit(&c)
	}
	return c
}

func gpuNode(ready corev1.ConditionStatus, ago time.Duration, gpus string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{
			{
				Type:               corev1.NodeReady,
				Status:             ready,
				Reason:             "KubeletNotReady",
				LastTransitionTime: metav1.NewTime(now.Add(-ago)),
			},
		},
		Allocatable: corev1.ResourceList{kaitov1alpha1.ResourceNvidiaGPU: resource.MustParse(gpus)},
	}}
}

func TestAssess(t *testing.T) {
	t.Parallel()
	used := placement.History{Used: true}
	for _, test := range []struct {
		name    string
		claim   placement.Claim
		node    *corev1.Node
		past    placement.History
		phase   placement.Phase
		reason  string
		recheck time.Duration
	}{
		{name: "a claim without a condition waits until its deadline",
			claim: claim(func(c *placement.Claim) { *c = placement.Claim{Created: now.Add(-time.Minute)} }), phase: placement.Waiting, recheck: time.Minute},
		{name: "a claim without a condition after its deadline is ignored",
			claim: claim(func(c *placement.Claim) { *c = placement.Claim{Created: now.Add(-2 * time.Minute)} }), phase: placement.Ignored, reason: kaitov1alpha1.ReasonNoProvisioner},
		{name: "a launch in progress has no reason",
			claim: claim(func(c *placement.Claim) {
				c.Launched, c.Registered = is("Unknown", "AwaitingReconciliation", "", 0), placement.Condition{}
			}), phase: placement.Waiting},
		{name: "a launch with a problem shows its reason",
			claim: claim(func(c *placement.Claim) {
				c.Launched, c.Registered = is("Unknown", "Throttled", "429", 0), placement.Condition{}
			}), phase: placement.Waiting, reason: "Throttled"},
		{name: "a launch that was given up has failed for the provider's reason",
			claim: claim(func(c *placement.Claim) {
				c.Launched, c.Registered = is("False", "QuotaExceeded", "0 of 6", 0), placement.Condition{}
			}), phase: placement.Failed, reason: "QuotaExceeded"},
		{name: "a node that never joined has failed for the provider's reason",
			claim: claim(func(c *placement.Claim) { c.Registered = is("False", "NodeNeverJoined", "", 0) }), phase: placement.Failed, reason: "NodeNeverJoined"},
		{name: "a claim on its way out is nothing else",
			claim: claim(func(c *placement.Claim) { c.Deleting = true }), node: gpuNode("True", 0, "2"), phase: placement.Deleting},
		{name: "claim Ready, Node Ready and GPUs allocatable make it usable",
			claim: claim(nil), node: gpuNode("True", 0, "2"), phase: placement.Usable},
		{name: "a Ready claim without its GPUs is waited for, from when its node joined",
			claim: claim(nil), node: gpuNode("True", 0, "1"), phase: placement.Waiting, recheck: 10 * time.Minute},
		{name: "a Ready claim whose Node is not Ready is waited for",
			claim: claim(nil), node: gpuNode("False", time.Minute, "2"), phase: placement.Waiting, recheck: 10 * time.Minute},
		{name: "a Node Ready with GPUs is not usable before the claim says so",
			claim: claim(func(c *placement.Claim) {
				c.Ready, c.Initialized = is("Unknown", "", "", 0), is("Unknown", "StartupTaintsExist", "", 0)
			}), node: gpuNode("True", 0, "2"), phase: placement.Waiting, recheck: 10 * time.Minute},
		{name: "past its deadline a node without GPUs has failed",
			claim: claim(func(c *placement.Claim) { c.Registered.Since = now.Add(-15 * time.Minute) }), node: gpuNode("True", 0, "0"), phase: placement.Failed, reason: kaitov1alpha1.ReasonAcceleratorNotReady},
		{name: "a node in use that is not Ready is lost only after a while",
			claim: claim(nil), node: gpuNode("Unknown", time.Minute, "2"), past: used, phase: placement.Waiting, reason: kaitov1alpha1.ReasonNodeLost, recheck: 4 * time.Minute},
		{name: "a node in use that stays not Ready is lost",
			claim: claim(nil), node: gpuNode("Unknown", 5*time.Minute, "2"), past: used, phase: placement.Lost, reason: kaitov1alpha1.ReasonNodeLost},
		{name: "a node in use that is gone is lost at once",
			claim: claim(nil), past: used, phase: placement.Lost, reason: kaitov1alpha1.ReasonNodeLost},
		{name: "a node in use whose GPUs vanish has the whole time from now",
			claim: claim(nil), node: gpuNode("True", time.Hour, "0"), past: used, phase: placement.Waiting, reason: kaitov1alpha1.ReasonNodeLost, recheck: 5 * time.Minute},
		{name: "a node in use whose GPUs stay away is lost, counted from when the Workspace said so",
			claim: claim(nil), node: gpuNode("True", time.Hour, "0"), past: placement.History{Used: true, Lost: now.Add(-6 * time.Minute)}, phase: placement.Lost, reason: kaitov1alpha1.ReasonNodeLost},
		{name: "a node in use that its provider gives up is lost, not failed to launch",
			claim: claim(func(c *placement.Claim) { c.Registered = is("False", "NodeGone", "evicted", 0) }), node: gpuNode("True", 0, "2"), past: used, phase: placement.Lost, reason: kaitov1alpha1.ReasonNodeLost},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := placement.Assess(test.claim, test.node, 2, test.past, limits, now)
			assert.Equal(t, test.phase, got.Phase, got.Message)
			assert.Equal(t, test.reason, got.Reason)
			assert.Equal(t, test.recheck, got.Recheck)
			if got.Phase == placement.Failed || got.Phase == placement.Lost || got.Phase == placement.Ignored {
				assert.NotEmpty(t, got.Message)
			}
		})
	}
}

func TestResting(t *testing.T) {
	t.Parallel()
	choice := plan.Choice{InstanceType: "A", CapacityType: kaitov1alpha1.CapacityOnDemand}
	attempts := func(reason string, ago ...time.Duration) []kaitov1alpha1.Attempt {
		var out []kaitov1alpha1.Attempt
		for _, a := range ago {
			out = placement.Record(out, choice, reason, "why", now.Add(-a))
		}
		return out
	}
	for _, test := range []struct {
		name     string
		attempts []kaitov1alpha1.Attempt
		rest     time.Duration // from now; 0: none
	}{
		{"what has not failed does not rest", nil, 0},
		{"a first failure rests a minute", attempts("QuotaExceeded", 20*time.Second), 40 * time.Second},
		{"a pause ends", attempts("QuotaExceeded", time.Minute), 0},
		{"each failure doubles the pause", attempts("QuotaExceeded", 10*time.Minute, 5*time.Minute, time.Minute), 3 * time.Minute},
		{"a pause has an end however often it failed", attempts("QuotaExceeded", time.Hour, 50*time.Minute, 40*time.Minute, 30*time.Minute, 20*time.Minute, 10*time.Minute, time.Minute), 29 * time.Minute},
		{"what failed long ago is forgotten", attempts("QuotaExceeded", 9*time.Hour, 8*time.Hour, 7*time.Hour, time.Second), time.Minute - time.Second},
		{"lost nodes are replaced at once", attempts(kaitov1alpha1.ReasonNodeLost, 2*time.Minute, time.Minute), 0},
		{"too many lost nodes in an hour rest", attempts(kaitov1alpha1.ReasonNodeLost, 30*time.Minute, 20*time.Minute, 30*time.Second), 30 * time.Second},
		{"lost nodes spread over a day do not", attempts(kaitov1alpha1.ReasonNodeLost, 9*time.Hour, 5*time.Hour, time.Second), 0},
		{"three nodes without GPUs are replaced", attempts(kaitov1alpha1.ReasonAcceleratorNotReady, 3*time.Minute, 2*time.Minute, time.Minute), 0},
		{"a fourth is not", attempts(kaitov1alpha1.ReasonAcceleratorNotReady, 4*time.Minute, 3*time.Minute, 2*time.Minute, time.Minute), placement.Forever},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			until, rests := placement.Resting(test.attempts, now)[choice]
			assert.Equal(t, test.rest > 0, rests)
			if rests {
				assert.Equal(t, test.rest, until.Sub(now))
			}
		})
	}
}

func TestStatusKeepsTheLastTenAttemptsWithShortMessages(t *testing.T) {
	t.Parallel()
	var attempts []kaitov1alpha1.Attempt
	long := ""
	for len(long) < 5000 {
		long += "é"
	}
	for i := range 14 {
		attempts = placement.Record(attempts, plan.Choice{InstanceType: "A"}, "R", long, now.Add(time.Duration(i)*time.Minute))
	}
	assert.Len(t, attempts, 10)
	assert.Equal(t, now.Add(13*time.Minute), attempts[9].Time.UTC())
	assert.Less(t, len(attempts[0].Message), 1100)
	assert.True(t, utf8.ValidString(attempts[0].Message), "cut at a rune")
}
