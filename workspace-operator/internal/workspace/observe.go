// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/gpubudget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/tuning"
	"kaito.sh/workspace-operator/internal/watch"
)

// The definitions of other operators' kinds say which of them the cluster serves.
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=list;watch
// Nodes say whether they are Ready and have their GPUs.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch

// observer reads what exists, from caches only.
type observer struct {
	client client.Reader
	kinds  placement.Kinds
	claims placement.Claims
	ledger *gpubudget.Ledger
	limits placement.Limits
	// allows returns whether new claims may be of a kind.
	allows func(placement.API) bool
}

func (o observer) observe(ctx context.Context, s *scope) (flow.Result, error) {
	if s.before.Status.ObservedGeneration != 0 && s.before.Status.ObservedGeneration != s.workspace.Generation {
		// The user has changed the Workspace: earlier failures say nothing about what it asks for now.
		s.workspace.Status.Attempts = nil
	}
	for _, read := range []func(context.Context, *scope) error{
		o.readClaims, o.readExisting, o.readServer, o.readJob, o.readBudgets,
	} {
		if err := read(ctx, s); err != nil {
			return flow.Stop(), err
		}
	}
	return flow.Continue(), nil
}

// readClaims reads the claims of both kinds with their nodes, and chooses the kind of new claims.
func (o observer) readClaims(ctx context.Context, s *scope) error {
	served, err := o.claims.Served(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(served, o.allows); i >= 0 {
		s.api = served[i]
	}
	claims, err := o.claims.List(ctx, o.client, client.MatchingFields{watch.ByOwnerUID: string(s.workspace.UID)})
	if err != nil {
		return err
	}
	for _, claim := range claims {
		n, err := o.node(ctx, claim.NodeName)
		if err != nil {
			return err
		}
		s.states = append(s.states, placement.Assess(claim, n, claim.GPUs, historyOf(s, claim), o.limits, s.now))
	}
	return nil
}

// historyOf returns what the status remembers of a claim's node.
func historyOf(s *scope, claim placement.Claim) placement.History {
	h := placement.History{
		Used: claim.NodeName != "" && slices.Contains(s.before.Status.WorkerNodes, claim.NodeName),
	}
	c := conditions.Get(s.before, kaitov1alpha1.ConditionResourceReady)
	if c != nil && c.Status != metav1.ConditionTrue && c.Reason == kaitov1alpha1.ReasonNodeLost {
		h.Lost = c.LastTransitionTime.Time
	}
	return h
}

// readExisting reads the nodes that existed before and that the Workspace may use: those that it has chosen, and, while
// it lacks nodes, all that match it, are usable, and are not used by another Workspace.
func (o observer) readExisting(ctx context.Context, s *scope) error {
	s.existing.Held = map[string]bool{}
	if !placement.UsesExisting(s.workspace) {
		return nil
	}
	claimed := map[string]bool{}
	for _, state := range s.states {
		claimed[state.Claim.NodeName] = true
	}
	if err := o.readHeld(ctx, s, claimed); err != nil {
		return err
	}
	status := s.before.Status
	have := len(placement.Live(s.states)) + len(s.existing.Held)
	if status.TargetNodeCount > 0 && have >= int(status.TargetNodeCount) &&
		status.ObservedGeneration == s.workspace.Generation {
		return nil // it has all its nodes
	}
	matching, err := o.matching(ctx, s.workspace)
	if err != nil {
		return err
	}
	for _, n := range matching {
		if s.existing.Held[n.Name] || claimed[n.Name] {
			continue
		}
		free, err := o.free(ctx, s.workspace, &n)
		if err != nil {
			return err
		}
		if free {
			s.existing.Candidates = append(s.existing.Candidates, n)
		}
	}
	return nil
}

// readHeld reads the nodes that the Workspace has chosen before.
func (o observer) readHeld(ctx context.Context, s *scope, claimed map[string]bool) error {
	for _, name := range s.before.Status.WorkerNodes {
		if claimed[name] {
			continue
		}
		n, err := o.node(ctx, name)
		if err != nil {
			return err
		}
		switch {
		case n == nil || n.Labels[kaitov1alpha1.LabelWorkspaceUID] != "":
		case placement.Unusable(n, 1) != "":
			s.existing.Down = append(s.existing.Down, *n)
		default:
			s.existing.Held[name] = true
			s.existing.Candidates = append(s.existing.Candidates, *n)
		}
	}
	return nil
}

// matching lists the nodes that the selector or preferredNodes name, by name.
func (o observer) matching(ctx context.Context, w *kaitov1alpha1.Workspace) ([]corev1.Node, error) {
	var out []corev1.Node
	if placement.Selects(w.Resource.LabelSelector) {
		selector, err := metav1.LabelSelectorAsSelector(w.Resource.LabelSelector)
		if err != nil {
			selector = labels.Nothing() // a requirement's operator that the schema does not know
		}
		list := &corev1.NodeList{}
		if err := o.client.List(ctx, list, client.MatchingLabelsSelector{Selector: selector}); err != nil {
			return nil, fmt.Errorf("listing nodes: %w", err)
		}
		out = list.Items
	}
	for _, name := range w.Resource.PreferredNodes {
		if slices.ContainsFunc(out, func(n corev1.Node) bool { return n.Name == name }) {
			continue
		}
		n, err := o.node(ctx, name)
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

// free returns whether a node is usable, and neither made for nor chosen by another Workspace.
func (o observer) free(ctx context.Context, w *kaitov1alpha1.Workspace, n *corev1.Node) (bool, error) {
	if n.Labels[kaitov1alpha1.LabelWorkspaceUID] != "" || n.Spec.Unschedulable || placement.Unusable(n, 1) != "" {
		return false, nil
	}
	users := &kaitov1alpha1.WorkspaceList{}
	if err := o.client.List(ctx, users, client.MatchingFields{watch.ByWorkerNode: n.Name}); err != nil {
		return false, fmt.Errorf("listing the Workspaces on node %s: %w", n.Name, err)
	}
	for _, user := range users.Items {
		if user.UID != w.UID {
			return false, nil
		}
	}
	return true, nil
}

func (o observer) readServer(ctx context.Context, s *scope) error {
	var err error
	s.found, err = serving.Find(ctx, o.client, s.workspace)
	return err
}

// readJob reads the TuningJob before nodes are placed: a failed TuningJob needs no nodes, and they cost money until a
// person acts. The deletion of the TuningJob repeats the run, and asks for the nodes again.
func (o observer) readJob(ctx context.Context, s *scope) error {
	if !s.tunes() || s.tuned() {
		return nil
	}
	var err error
	if s.job.served, err = o.kinds.Served(ctx, &tuningv1alpha1.TuningJob{}); err != nil || !s.job.served {
		return err
	}
	s.job.object, err = serving.Get(ctx, o.client, s.key(), &tuningv1alpha1.TuningJob{})
	if err != nil || s.job.object == nil {
		return err
	}
	s.job.ours = metav1.IsControlledBy(s.job.object, s.workspace)
	s.job.result = tuning.Read(s.job.object, o.limits.Acknowledge, s.now)
	return nil
}

// readBudgets reads the GPUBudgets of the Workspace's namespace: the plan depends on them.
func (o observer) readBudgets(ctx context.Context, s *scope) error {
	budgets, err := o.ledger.Budgets(ctx, o.client, s.workspace.Namespace)
	if err != nil {
		return err
	}
	s.budgets = budgets
	if len(budgets) > 0 {
		o.ledger.Room.Wait(s.key())
	}
	return nil
}

// node reads a Node; nil where it does not exist or has no name yet.
func (o observer) node(ctx context.Context, name string) (*corev1.Node, error) {
	if name == "" {
		return nil, nil
	}
	return serving.Get(ctx, o.client, client.ObjectKey{Name: name}, &corev1.Node{})
}
