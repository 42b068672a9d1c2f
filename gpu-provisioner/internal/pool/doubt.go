// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"
	"strings"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Doubt says why the list of an agent pool's machines cannot be right. A pool in doubt is left alone: it is not
// deleted, its count is not changed, and no machine of it is deleted that core has not released.
type Doubt struct {
	// Message says what contradicts what, for a person. It stays the same while the contradiction does.
	Message string
	// Machines are the provider IDs that claims name, that the list lacks, and that core must not consider gone: the list
	// is incomplete, or it has lacked them for less than the grace, since Azure's lists may lag. Core compares an older
	// complete list with the Nodes.
	Machines []string
}

// findDoubts looks for pools whose list of machines contradicts the claims or itself. Azure lowers a pool's count by
// deleting machines of its own choice, and deletes a pool with all that runs in it: both need a list that is right.
//
// A claim that is registered is a witness for its machine, since its kubelet has reported, until core has released it.
// When a machine has really gone, its Node stops being Ready within a minute, and core's garbage collection, which
// leaves claims of Ready Nodes alone, deletes the claim: so doubt ends, whether the list was right or wrong.
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

// deletes says whether a running operation deletes the machine.
func (d *decider) deletes(pool, providerID string) bool {
	op, ok := d.Operations[pool]
	return ok && (op.Kind == azure.OperationDelete || slices.Contains(op.Machines, providerID))
}

// contradiction names the claims, at most three of them.
func contradiction(claims []*Claim) string {
	const most = 3
	shown := names(claims[:min(most, len(claims))])
	more := ""
	if n := len(claims) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(
		"Azure's list of its machines lacks those of NodeClaim %s%s, whose Nodes have joined", strings.Join(shown, ", "),
		more,
	)
}

// doubted says whether the pool is left alone.
func (d *decider) doubted(pool string) bool {
	_, ok := d.out.Doubts[pool]
	return ok
}
