// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// One Machine or NodeClaim asks for one node, and its deletion releases the node.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines;nodeclaims,verbs=get;list;watch;create;delete

// Kinds tells which kinds the cluster serves.
type Kinds interface {
	Served(ctx context.Context, obj client.Object) (bool, error)
}

// Claims reads and deletes the claims of Workspaces, of all the kinds that the cluster serves.
type Claims struct {
	Kinds Kinds
	// APIs are the kinds that a Workspace may have claims of. Empty: nodes are never rented, and no claim is read.
	APIs []API
}

// Served returns the kinds that the cluster serves.
func (c Claims) Served(ctx context.Context) ([]API, error) {
	var out []API
	for _, api := range c.APIs {
		served, err := c.Kinds.Served(ctx, api.Object())
		if err != nil {
			return nil, err
		}
		if served {
			out = append(out, api)
		}
	}
	return out, nil
}

// List returns the claims that by selects, those of each kind by ordinal and attempt. It leaves out a NodeClaim that a
// provisioner made of a Machine: it carries the Machine's labels and belongs to the Machine.
func (c Claims) List(ctx context.Context, reader client.Reader, by client.ListOption) ([]Claim, error) {
	served, err := c.Served(ctx)
	if err != nil {
		return nil, err
	}
	var out []Claim
	for _, api := range served {
		list := api.List()
		if err := reader.List(ctx, list, by); err != nil {
			return nil, fmt.Errorf("listing the %ss of a Workspace: %w", api.Kind(), err)
		}
		var claims []Claim
		for _, obj := range api.Items(list) {
			if len(obj.GetOwnerReferences()) == 0 {
				claims = append(claims, api.Read(obj))
			}
		}
		slices.SortFunc(claims, func(a, b Claim) int {
			if a.Ordinal != b.Ordinal {
				return a.Ordinal - b.Ordinal
			}
			return a.Attempt - b.Attempt
		})
		out = append(out, claims...)
	}
	return out, nil
}

// fewNodes is how many nodes Exists reads by name; more of them are cheaper to list.
const fewNodes = 2

// Exists returns whether a Workspace has a claim that the caches may not show yet. reader must read the API server
// itself. The names of claims are deterministic: the claims of a Workspace with few nodes and without failed attempts
// are read by name, which costs the API server the same however many claims other Workspaces have. All others are
// listed.
func (c Claims) Exists(ctx context.Context, reader client.Reader, w *kaitov1alpha1.Workspace) (bool, error) {
	plan, nodes := w.Status.Plan, int(w.Status.TargetNodeCount)
	if plan != nil {
		nodes = max(nodes, int(plan.Nodes))
	}
	if plan == nil || nodes > fewNodes || len(w.Status.Attempts) > 0 {
		claims, err := c.List(ctx, reader, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceUID: string(w.UID)})
		return len(claims) > 0, err
	}
	served, err := c.Served(ctx)
	if err != nil {
		return false, err
	}
	for _, api := range served {
		for ordinal := range nodes {
			key := client.ObjectKey{Name: Name(w.UID, ordinal, 0)}
			err := reader.Get(ctx, key, api.Object())
			switch {
			case err == nil:
				return true, nil
			case !apierrors.IsNotFound(err):
				return false, fmt.Errorf("reading %s %s: %w", api.Kind(), key.Name, err)
			}
		}
	}
	return false, nil
}

// Delete asks for the deletion of a claim. A claim that has gone, or another object of its name, is not an error: the
// watch shows it.
func Delete(ctx context.Context, c client.Writer, claim Claim) error {
	err := c.Delete(ctx, claim.Object, client.Preconditions{UID: &claim.UID})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("deleting %s %s: %w", claim.Kind, claim.Name, err)
}
