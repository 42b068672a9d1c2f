// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/placement"
)

// Which kinds of other operators are served is read from their definitions.
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=list;watch
// Nodes tell whether they are ready and have their GPUs.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch

// observe gathers what is there, from caches only.
func (r *Reconciler) observe(ctx context.Context, s *scope) (flow.Result, error) {
	if s.before.Status.ObservedGeneration != 0 && s.before.Status.ObservedGeneration != s.workspace.Generation {
		// The user has acted: what failed before was another wish.
		s.workspace.Status.Attempts = nil
	}
	claims, err := r.listClaims(ctx, s)
	if err != nil {
		return flow.Stop(), err
	}
	for _, claim := range claims {
		n, err := r.nodeOf(ctx, claim.NodeName)
		if err != nil {
			return flow.Stop(), err
		}
		s.states = append(s.states, placement.Assess(claim, n, claim.GPUs, s.history(claim), r.options.Limits, s.now))
	}
	if err := r.findNodes(ctx, s); err != nil {
		return flow.Stop(), err
	}
	if err := r.findServer(ctx, s); err != nil {
		return flow.Stop(), err
	}
	if s.service, err = get(ctx, r.client, s.workspace, &corev1.Service{}); err != nil {
		return flow.Stop(), err
	}
	return flow.Continue(), nil
}

// get reads the object of the Workspace's name; nil when there is none.
func get[T client.Object](ctx context.Context, c client.Client, w *kaitov1alpha1.Workspace, obj T) (T, error) {
	var none T
	err := c.Get(ctx, client.ObjectKeyFromObject(w), obj)
	if apierrors.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("reading %T %s: %w", obj, client.ObjectKeyFromObject(w), err)
	}
	return obj, nil
}

// history is what the status remembers of the claim's node.
func (s *scope) history(claim placement.Claim) placement.History {
	h := placement.History{Used: claim.NodeName != "" && slices.Contains(s.before.Status.WorkerNodes, claim.NodeName)}
	if c := conditions.Get(s.before, kaitov1alpha1.ConditionResourceReady); c != nil && c.Status != "True" &&
		c.Reason == kaitov1alpha1.ReasonNodeLost {
		h.Lost = c.LastTransitionTime.Time
	}
	return h
}

// listClaims lists the Workspace's claims of both kinds, and chooses the kind that new ones are made of.
func (r *Reconciler) listClaims(ctx context.Context, s *scope) ([]placement.Claim, error) {
	var out []placement.Claim
	for _, api := range r.claimAPIs() {
		served, err := r.foreign.Served(ctx, api.Object())
		if err != nil {
			return nil, err
		}
		if !served {
			continue
		}
		if s.api == nil && r.wanted(api) {
			s.api = api
		}
		claims, err := claimsOf(ctx, r.client, api, client.MatchingFields{indexOwnerUID: string(s.workspace.UID)})
		if err != nil {
			return nil, err
		}
		out = append(out, claims...)
	}
	return out, nil
}

// claimAPIs are the kinds that a Workspace may have claims of. Those of a kind that --node-api no longer chooses are
// still released; with none there is no right to read either.
func (r *Reconciler) claimAPIs() []placement.API {
	if r.options.NodeAPI == NodeAPINone {
		return nil
	}
	return []placement.API{r.machines, r.nodeClaims}
}

// wanted says whether --node-api allows a kind.
func (r *Reconciler) wanted(api placement.API) bool {
	switch r.options.NodeAPI {
	case NodeAPIMachine:
		return api == r.machines
	case NodeAPINodeClaim:
		return api == r.nodeClaims
	}
	return true
}

// claimsOf lists claims of one kind. A NodeClaim that a provisioner made of a Machine carries the Machine's labels, and
// is the Machine's.
func claimsOf(ctx context.Context, reader client.Reader, api placement.API, by client.ListOption) ([]placement.Claim, error) {
	list := api.List()
	if err := reader.List(ctx, list, by); err != nil {
		return nil, fmt.Errorf("listing the %ss of a Workspace: %w", api.Kind(), err)
	}
	var out []placement.Claim
	for _, obj := range api.Items(list) {
		if len(obj.GetOwnerReferences()) > 0 {
			continue
		}
		out = append(out, api.Read(obj))
	}
	slices.SortFunc(out, func(a, b placement.Claim) int {
		if a.Ordinal != b.Ordinal {
			return a.Ordinal - b.Ordinal
		}
		return a.Attempt - b.Attempt
	})
	return out, nil
}

// nodeOf reads a Node; nil when there is none of the name.
func (r *Reconciler) nodeOf(ctx context.Context, name string) (*corev1.Node, error) {
	if name == "" {
		return nil, nil
	}
	n := &corev1.Node{}
	err := r.client.Get(ctx, client.ObjectKey{Name: name}, n)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Node %s: %w", name, err)
	}
	return n, nil
}
