// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"
	"strings"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Doubt is the reason why the list of an agent pool's machines cannot be correct. The pool is not deleted, its count is
// not changed, and of its machines only those that Karpenter has released are deleted.
type Doubt struct {
	// Message is the contradiction, for a user. It does not change while the contradiction lasts.
	Message string
	// Machines are the provider IDs that claims name, that the list lacks, and that Karpenter must not consider gone: the
	// list is incomplete, or it has lacked them for less than Grace, because Azure's lists can lag. Karpenter itself
	// compares an older complete list with the Nodes.
	Machines []string
}

// findDoubts finds the pools whose list of machines contradicts the claims or itself. Azure chooses which machines to
// delete when a pool's count is lowered, and deletes every machine of a deleted pool, so both need a correct list.
// A registered claim proves that its machine exists until Karpenter has released it, because its kubelet has reported.
// When a machine is really gone, its Node becomes not Ready within a minute, and Karpenter's garbage collection, which
// skips claims of Ready Nodes, deletes the claim. So a doubt ends whether the list was correct or not.
func (d *decider) findDoubts() {
	listed := map[string]bool{}
	for i := range d.View.Pools {
		p := &d.View.Pools[i]
		for _, m := range p.Machines {
			listed[m.ProviderID] = true
		}
		if p.Watched() && p.Doubt != "" {
			d.out.Doubts[p.Name] = Doubt{Message: p.Doubt}
		}
	}
	witnesses := map[string][]*Claim{}
	for _, c := range d.claims {
		if c.ProviderID == "" || listed[c.ProviderID] || c.Released {
			continue
		}
		p, ok := d.View.Pool(azure.PoolOf(c.ProviderID))
		if !ok || !p.Watched() || p.State == azure.StateDeleting || d.deletes(p.Name, c.ProviderID) {
			continue
		}
		if c.Registered {
			witnesses[p.Name] = append(witnesses[p.Name], c)
		}
		lags := c.Registered && !d.confirm(sightMissing(c.ProviderID), p.MachinesAt)
		if p.Doubt != "" || lags {
			doubt := d.out.Doubts[p.Name]
			doubt.Machines = append(doubt.Machines, c.ProviderID)
			d.out.Doubts[p.Name] = doubt
		}
	}
	for name, claims := range witnesses {
		doubt := d.out.Doubts[name]
		if doubt.Message == "" {
			doubt.Message = contradiction(claims)
		}
		d.out.Doubts[name] = doubt
	}
}

// deletes returns whether a running operation deletes the machine.
func (d *decider) deletes(pool, providerID string) bool {
	op, ok := d.Operations[pool]
	return ok && (op.Kind == azure.OperationDelete || slices.Contains(op.Machines, providerID))
}

// contradiction names up to three of the claims.
func contradiction(claims []*Claim) string {
	const most = 3
	shown := names(claims[:min(most, len(claims))])
	more := ""
	if n := len(claims) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(
		"Azure's list of its machines lacks those of NodeClaim %s%s, whose Nodes have registered", strings.Join(shown, ", "),
		more,
	)
}

// doubted returns whether the pool must not be changed.
func (d *decider) doubted(pool string) bool {
	_, ok := d.out.Doubts[pool]
	return ok
}
