// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// findNodes gathers nodes that were there before and that the Workspace may use: those it has chosen, and, while it
// lacks nodes, all that match it, are usable, and belong to nobody.
func (r *Reconciler) findNodes(ctx context.Context, s *scope) error {
	s.held = map[string]bool{}
	if !reuses(s.workspace) {
		return nil
	}
	claimed := map[string]bool{}
	for _, state := range s.states {
		claimed[state.Claim.NodeName] = true
	}
	for _, name := range s.before.Status.WorkerNodes {
		if claimed[name] {
			continue
		}
		n, err := r.nodeOf(ctx, name)
		if err != nil {
			return err
		}
		switch {
		case n == nil || n.Labels[kaitov1alpha1.LabelWorkspaceUID] != "":
		case placement.Unusable(n, 1) != "":
			s.down = append(s.down, *n)
		default:
			s.held[name] = true
			s.candidates = append(s.candidates, *n)
		}
	}
	if target := int(s.before.Status.TargetNodeCount); target > 0 && len(s.live())+len(s.held) >= target &&
		s.before.Status.ObservedGeneration == s.workspace.Generation {
		return nil // it has what it wants: other nodes need not be looked at
	}
	matching, err := r.matching(ctx, s.workspace)
	if err != nil {
		return err
	}
	for _, n := range matching {
		if s.held[n.Name] || claimed[n.Name] {
			continue
		}
		free, err := r.free(ctx, s.workspace, &n)
		if err != nil {
			return err
		}
		if free {
			s.candidates = append(s.candidates, n)
		}
	}
	return nil
}

// reuses says whether nodes that were there before may be used. An empty selector names no node: taking any GPU node of
// the cluster would take somebody else's.
func reuses(w *kaitov1alpha1.Workspace) bool {
	if w.Resource.Provisioning == kaitov1alpha1.ProvisioningAlways {
		return false
	}
	return len(w.Resource.PreferredNodes) > 0 || selects(w.Resource.LabelSelector)
}

func selects(s *metav1.LabelSelector) bool {
	return s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0
}

// matching lists the nodes that the selector, or preferredNodes, names.
func (r *Reconciler) matching(ctx context.Context, w *kaitov1alpha1.Workspace) ([]corev1.Node, error) {
	var out []corev1.Node
	if selects(w.Resource.LabelSelector) {
		selector, err := metav1.LabelSelectorAsSelector(w.Resource.LabelSelector)
		if err != nil {
			selector = labels.Nothing() // an operator that the schema does not know
		}
		list := &corev1.NodeList{}
		if err := r.client.List(ctx, list, client.MatchingLabelsSelector{Selector: selector}); err != nil {
			return nil, fmt.Errorf("listing nodes: %w", err)
		}
		out = list.Items
	}
	for _, name := range w.Resource.PreferredNodes {
		if slices.ContainsFunc(out, func(n corev1.Node) bool { return n.Name == name }) {
			continue
		}
		n, err := r.nodeOf(ctx, name)
		if err != nil {
			return nil, err
		}
		if n != nil {
			out = append(out, *n)
		}
	}
	slices.SortFunc(out, func(a, b corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// free says whether a node is usable, and neither made nor chosen for another Workspace.
func (r *Reconciler) free(ctx context.Context, w *kaitov1alpha1.Workspace, n *corev1.Node) (bool, error) {
	if n.Labels[kaitov1alpha1.LabelWorkspaceUID] != "" || n.Spec.Unschedulable || placement.Unusable(n, 1) != "" {
		return false, nil
	}
	users := &kaitov1alpha1.WorkspaceList{}
	if err := r.client.List(ctx, users, client.MatchingFields{indexWorkerNodes: n.Name}); err != nil {
		return false, fmt.Errorf("listing the Workspaces on node %s: %w", n.Name, err)
	}
	for _, user := range users.Items {
		if user.UID != w.UID {
			return false, nil
		}
	}
	return true, nil
}

// chooseOwn takes as many of the candidates as are wanted: those it has, then the preferred ones, then by name. Each is
// reserved, so that two Workspaces that choose at the same time never count the same node.
func (s *scope) chooseOwn(r *Reconciler, want int) {
	candidates := slices.Clone(s.candidates)
	preferred := s.workspace.Resource.PreferredNodes
	rank := func(n corev1.Node) int {
		if s.held[n.Name] {
			return -1
		}
		if i := slices.Index(preferred, n.Name); i >= 0 {
			return i
		}
		return len(preferred)
	}
	slices.SortFunc(candidates, func(a, b corev1.Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	size := s.choice().InstanceType
	names := map[string]bool{}
	s.own = nil
	for _, n := range candidates {
		if len(s.own) >= want {
			break
		}
		if size != "" && !strings.EqualFold(n.Labels[corev1.LabelInstanceTypeStable], size) &&
			n.Labels[corev1.LabelInstanceTypeStable] != "" {
			continue
		}
		if s.blocked != nil && !s.held[n.Name] {
			continue
		}
		if r.reservations.take(n.Name, s.workspace.UID) {
			s.own = append(s.own, n)
			names[n.Name] = true
		}
	}
	if len(s.own) >= want {
		s.down = nil // others have taken their place
	}
	for _, n := range s.down {
		names[n.Name] = true
	}
	r.reservations.keep(s.workspace.UID, names)
}

// ownNames are the nodes, of those that were there, that the workload is bound to.
func (s *scope) ownNames() []string {
	var names []string
	for _, n := range s.own {
		names = append(names, n.Name)
	}
	if len(names) == 0 {
		for name := range s.held {
			names = append(names, name)
		}
		for _, n := range s.down {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names
}
