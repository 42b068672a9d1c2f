// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/placement"
)

// annotationProviderID is set by the gpu-provisioner. It binds a NodeClaim to a machine before the status has the id.
const annotationProviderID = "kaito.sh/provider-id"

// States of a finding.
const (
	// stateOrphan is an object that costs money and has no owner.
	stateOrphan = "orphan"
	// stateTransient is an object that is being released, or that is too young to be an orphan.
	stateTransient = "in progress"
	// stateMissing is a claim whose machine does not exist.
	stateMissing = "missing"
)

// inventory has the objects of the cluster and the agent pools of the cloud.
type inventory struct {
	now        time.Time
	grace      time.Duration
	workspaces []kaitov1alpha1.Workspace
	claims     []placement.Claim
	nodes      []corev1.Node
	pools      []agentPool
	// cloud is true if --pools was set.
	cloud bool
}

// finding is an object without an owner, or a claim without a machine.
type finding struct {
	State string `json:"state"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	// Workspace is the namespace/name of the Workspace that it was created for.
	Workspace string `json:"workspace,omitempty"`
	Age       string `json:"age,omitempty"`
	// CostPerHour is the list price in the cheapest region, US dollars.
	CostPerHour *float64 `json:"costPerHour,omitempty"`
	Why         string   `json:"why"`
	Remedy      string   `json:"remedy,omitempty"`
}

// owners counts Workspaces, each once.
func (inv *inventory) owners() int { return len(inv.uids()) }

func (inv *inventory) uids() map[types.UID]bool {
	out := map[types.UID]bool{}
	for i := range inv.workspaces {
		out[inv.workspaces[i].UID] = true
	}
	return out
}

// findings lists claims, then nodes, then pools.
func (inv *inventory) findings(prices *catalog.Catalog) []finding {
	out := slices.Concat(inv.claimFindings(prices), inv.nodeFindings(prices), inv.poolFindings(prices))
	if out == nil {
		out = []finding{} // an empty list in JSON, not null
	}
	return out
}

// claimFindings returns the claims without an owner. The owner is a Workspace (by the UID in a label) or another claim.
// It ignores claims that name neither.
func (inv *inventory) claimFindings(prices *catalog.Catalog) []finding {
	owners, uids := inv.uids(), map[types.UID]bool{}
	for _, claim := range inv.claims {
		uids[claim.UID] = true
	}
	var out []finding
	for _, claim := range inv.claims {
		labels := claim.Object.GetLabels()
		f := finding{
			Kind:        claim.Kind,
			Name:        claim.Name,
			Age:         age(claim.Created, inv.now),
			Workspace:   owner(labels),
			CostPerHour: price(prices, claim.InstanceType, 1),
		}
		controller := metav1.GetControllerOf(claim.Object)
		switch uid := types.UID(labels[kaitov1alpha1.LabelWorkspaceUID]); {
		case controller != nil && uids[controller.UID]:
			continue // its owner is checked instead
		case controller != nil:
			f.Why = fmt.Sprintf("its owner %s %s does not exist", controller.Kind, controller.Name)
		case uid == "" || owners[uid]:
			continue
		default:
			f.Why = fmt.Sprintf("Workspace %s with UID %s does not exist", f.Workspace, uid)
		}
		f.State, f.Remedy = stateOrphan, fmt.Sprintf(
			"check that the workspace-operator runs (%s doctor), or run kubectl delete %s %s", kubectl, strings.ToLower(claim.Kind),
			claim.Name,
		)
		if since := deletedAt(claim.Object); !since.IsZero() {
			f.Remedy = "check its provisioner: the claim still has a finalizer"
			f.Why = fmt.Sprintf("%s; being deleted for %s", f.Why, age(since, inv.now))
			if inv.now.Sub(since) < inv.grace {
				f.State, f.Remedy = stateTransient, ""
			}
		} else if inv.now.Sub(claim.Created) < inv.grace {
			f.State, f.Remedy = stateTransient, ""
		}
		out = append(out, f)
	}
	return out
}

// nodeFindings returns the nodes that were created for a Workspace and have no claim.
func (inv *inventory) nodeFindings(prices *catalog.Catalog) []finding {
	names, providers := map[string]bool{}, map[string]bool{}
	for _, claim := range inv.claims {
		names[claim.NodeName] = true
		for _, id := range providerIDs(claim) {
			providers[id] = true
		}
	}
	managed := map[string]bool{}
	for _, p := range inv.pools {
		managed[strings.ToLower(p.Name)] = p.managed()
	}
	var out []finding
	for i := range inv.nodes {
		n := &inv.nodes[i]
		made := n.Labels[kaitov1alpha1.LabelWorkspaceUID] != "" || managed[poolOf(n.Spec.ProviderID)]
		if !made || names[n.Name] || n.Spec.ProviderID != "" && providers[n.Spec.ProviderID] {
			continue
		}
		f := finding{
			State:       stateOrphan,
			Kind:        "Node",
			Name:        n.Name,
			Workspace:   owner(n.Labels),
			Age:         age(n.CreationTimestamp.Time, inv.now),
			CostPerHour: price(prices, n.Labels[corev1.LabelInstanceTypeStable], 1),
			Why:         "it has no Machine or NodeClaim",
			Remedy:      "check the provisioner, which deletes machines without a claim; or delete the machine in its agent pool",
		}
		since := n.CreationTimestamp.Time
		if n.DeletionTimestamp != nil {
			since = n.DeletionTimestamp.Time
			f.Why += fmt.Sprintf("; being deleted for %s", age(since, inv.now))
		}
		if inv.now.Sub(since) < inv.grace {
			f.State, f.Remedy = stateTransient, ""
		}
		out = append(out, f)
	}
	return out
}

// poolFindings compares the count of each pool with the number of claims that have a machine in it. A surplus is not an
// orphan while a claim waits for a machine or an operation runs on the pool.
func (inv *inventory) poolFindings(prices *catalog.Catalog) []finding {
	bound, listed := map[string]int{}, map[string]bool{}
	waiting := 0
	var missing []finding
	for _, p := range inv.pools {
		listed[strings.ToLower(p.Name)] = true
	}
	counted := map[string]bool{}
	for _, claim := range inv.claims {
		ids := providerIDs(claim)
		if len(ids) == 0 {
			if _, _, failed := claim.Failure(); !failed && !inv.ownsClaim(claim) {
				waiting++
			}
			continue
		}
		pool := poolOf(ids[0])
		if counted[ids[0]] || pool == "" {
			continue
		}
		counted[ids[0]] = true
		bound[pool]++
		if inv.cloud && !listed[pool] && deletedAt(claim.Object).IsZero() {
			missing = append(
				missing,
				finding{
					State:     stateMissing,
					Kind:      claim.Kind,
					Name:      claim.Name,
					Workspace: owner(claim.Object.GetLabels()),
					Age:       age(claim.Created, inv.now),
					Why:       "its machine is in the agent pool " + pool + ", which the cloud does not list",
					Remedy:    "check that --pools is from this cluster, and current",
				},
			)
		}
	}
	var out []finding
	for _, p := range inv.pools {
		surplus := p.Count - bound[strings.ToLower(p.Name)]
		if !p.managed() || surplus <= 0 && (p.Count > 0 || !p.settled()) {
			continue
		}
		f := finding{State: stateOrphan, Kind: "AgentPool", Name: p.Name, CostPerHour: price(prices, p.VMSize, surplus),
			Why:    fmt.Sprintf("%d of its %s (%s) without a claim", surplus, plural(p.Count, "machine"), p.VMSize),
			Remedy: "check that the gpu-provisioner runs; or run az aks nodepool delete if no claim has a machine in it"}
		switch {
		case p.Count == 0:
			f.State, f.Why, f.Remedy, f.CostPerHour = stateTransient, "empty: the gpu-provisioner deletes it", "", nil
		case !p.settled():
			f.State, f.Remedy = stateTransient, ""
			f.Why += ", during an operation of Azure: " + p.ProvisioningState
		case waiting > 0:
			f.State, f.Remedy = stateTransient, ""
			f.Why += fmt.Sprintf(", and %s waits for one", plural(waiting, "claim"))
		}
		out = append(out, f)
	}
	return append(out, missing...)
}

// ownsClaim reports whether the claim owns another claim, which then has the machine.
func (inv *inventory) ownsClaim(claim placement.Claim) bool {
	return slices.ContainsFunc(
		inv.claims, func(other placement.Claim) bool { return metav1.IsControlledBy(other.Object, claim.Object) },
	)
}

// providerIDs returns the ids of a claim's machine, from the status and from the provisioner's annotation.
func providerIDs(claim placement.Claim) []string {
	var out []string
	for _, id := range []string{claim.ProviderID, claim.Object.GetAnnotations()[annotationProviderID]} {
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func owner(labels map[string]string) string {
	name := labels[kaitov1alpha1.LabelWorkspaceName]
	if name == "" {
		return ""
	}
	return labels[kaitov1alpha1.LabelWorkspaceNamespace] + "/" + name
}

func deletedAt(o metav1.Object) time.Time {
	if t := o.GetDeletionTimestamp(); t != nil {
		return t.Time
	}
	return time.Time{}
}

func price(prices *catalog.Catalog, size string, n int) *float64 {
	p, known := prices.LowestPrice(size)
	if !known || n < 1 {
		return nil
	}
	return cost(p.USDPerHour*float64(n), true)
}
