// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/plan"
)

// Is returns whether the claim asks for a choice.
func (c Claim) Is(choice plan.Choice) bool {
	return strings.EqualFold(c.InstanceType, choice.InstanceType) && c.CapacityType == choice.CapacityType
}

// Choice returns what the claim asks for.
func (c Claim) Choice() plan.Choice {
	return plan.Choice{InstanceType: c.InstanceType, CapacityType: c.CapacityType}
}

// Live returns the claims that have not failed and are not being deleted.
func Live(states []State) []State {
	var out []State
	for _, s := range states {
		if s.Phase != Failed && s.Phase != Lost && s.Phase != Deleting {
			out = append(out, s)
		}
	}
	return out
}

// Sort decides which claims to keep, by ordinal, and which to delete: claims that failed, and claims that a new plan
// does not need because they are too many or of another choice. planned is false where this pass has no valid plan:
// then only failed claims are deleted.
func Sort(states []State, want int, choice plan.Choice, planned bool) (keep map[int]State, remove []State) {
	keep = map[int]State{}
	for _, s := range states {
		c := s.Claim
		if s.Phase == Deleting {
			continue
		}
		_, double := keep[c.Ordinal]
		failed := s.Phase == Failed || s.Phase == Lost
		unwanted := planned && (c.Ordinal >= want || double || !c.Is(choice))
		if failed || unwanted {
			remove = append(remove, s)
			continue
		}
		keep[c.Ordinal] = s
	}
	return keep, remove
}

// Missing returns the ordinals below want without a claim. It leaves out those of waiting.
func Missing(kept map[int]State, waiting map[int]bool, want int) []int {
	var out []int
	for ordinal := range want {
		if _, ok := kept[ordinal]; !ok && !waiting[ordinal] {
			out = append(out, ordinal)
		}
	}
	return out
}

// NextAttempt returns the attempt number of a new claim: the number of failed attempts, and more than any existing
// claim of the ordinal has, so that names differ.
func NextAttempt(states []State, failed, ordinal int) int {
	attempt := failed
	for _, s := range states {
		if s.Claim.Ordinal == ordinal {
			attempt = max(attempt, s.Claim.Attempt+1)
		}
	}
	return attempt
}

// Existing are the nodes that existed before and that a Workspace may use.
type Existing struct {
	// Candidates are usable and not used by another Workspace.
	Candidates []corev1.Node
	// Held names those of the candidates that the Workspace has chosen before.
	Held map[string]bool
	// Down are nodes that the Workspace has chosen before and that are not usable now.
	Down []corev1.Node
}

// Names returns the names of the nodes that the Workspace has chosen, sorted.
func (e Existing) Names() []string {
	var names []string
	for name := range e.Held {
		names = append(names, name)
	}
	for _, n := range e.Down {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

// Selection limits which candidates Choose takes.
type Selection struct {
	// Want is the number of nodes.
	Want int
	// Size is the instance type; empty: any.
	Size string
	// Preferred nodes come first, in this order.
	Preferred []string
	// OnlyHeld allows no node that the Workspace has not chosen before.
	OnlyHeld bool
	// Take reserves a node and returns false where another Workspace has reserved it.
	Take func(name string) bool
}

// Choose takes candidates: first those that the Workspace has chosen before, then preferred nodes, then by name.
func (e Existing) Choose(s Selection) []corev1.Node {
	candidates := slices.Clone(e.Candidates)
	rank := func(n corev1.Node) int {
		if e.Held[n.Name] {
			return -1
		}
		if i := slices.Index(s.Preferred, n.Name); i >= 0 {
			return i
		}
		return len(s.Preferred)
	}
	slices.SortFunc(candidates, func(a, b corev1.Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	var out []corev1.Node
	for _, n := range candidates {
		if len(out) >= s.Want {
			break
		}
		size := n.Labels[corev1.LabelInstanceTypeStable]
		if s.Size != "" && size != "" && !strings.EqualFold(size, s.Size) || s.OnlyHeld && !e.Held[n.Name] {
			continue
		}
		if s.Take(n.Name) {
			out = append(out, n)
		}
	}
	return out
}

// UsesExisting returns whether a Workspace may use nodes that existed before. An empty selector selects no node: to
// take any GPU node of the cluster would take other users' nodes.
func UsesExisting(w *kaitov1alpha1.Workspace) bool {
	if w.Resource.Provisioning == kaitov1alpha1.ProvisioningAlways {
		return false
	}
	return len(w.Resource.PreferredNodes) > 0 || Selects(w.Resource.LabelSelector)
}

// Selects returns whether a selector has a requirement.
func Selects(s *metav1.LabelSelector) bool {
	return s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0
}

// Choice returns what the request asks for.
func (r Request) Choice() plan.Choice {
	return plan.Choice{InstanceType: r.InstanceType, CapacityType: r.CapacityType}
}
