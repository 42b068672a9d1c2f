// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// bindable returns whether the pool's free machines may be given to claims. They may not while another client changes
// the pool: an upgrade adds surge machines to the list, and AKS deletes them when it ends
// (https://learn.microsoft.com/azure/aks/upgrade-aks-node-pools-rolling).
func (p *pool) bindable() bool {
	switch {
	case p.Upgrading():
		return false
	case p.Settled(), p.State == azure.StateCreating, p.State == azure.StateScaling:
		return true
	}
	return p.op != nil
}

func sightSurge(providerID string) string { return "surge " + providerID }

// surge returns whether a free machine may be a surge machine: a view during an upgrade showed it as free, and no more
// than Grace has passed since. An upgrade that fails keeps some of its surge machines.
func (d *decider) surge(p *pool, providerID string) bool {
	subject := sightSurge(providerID)
	if p.Upgrading() {
		d.out.Sightings[subject] = Sighting{First: d.View.At, Last: d.View.At, Count: 1}
		return true
	}
	seen, noted := d.Sightings[subject]
	if !noted || p.MachinesAt.Sub(seen.Last) > d.Settings.Grace {
		return false
	}
	d.out.Sightings[subject] = seen
	d.due(seen.Last.Add(d.Settings.Grace + time.Second))
	return true
}

// findSurgeMachines finds the machines that may be surge machines. They are not given to claims, and are not surplus.
func (d *decider) findSurgeMachines() {
	d.maybeSurge = map[string]bool{}
	for _, p := range d.pools {
		for _, m := range d.free(p) {
			if d.surge(p, m.ProviderID) {
				d.maybeSurge[m.ProviderID] = true
			}
		}
	}
}

// bindableOf returns the free machines of the pool that claims may get.
func (d *decider) bindableOf(p *pool) []azure.Machine {
	return slices.DeleteFunc(d.free(p), func(m azure.Machine) bool { return d.maybeSurge[m.ProviderID] })
}
