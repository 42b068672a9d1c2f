// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// bindable says whether the pool's free machines may be given to claims. While another hand changes the pool, they may
// not: an upgrade adds surge machines to the list, which AKS deletes at its end
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

// surge notes the free machines of a pool that is being upgraded, and says whether this one may be a surge machine: it
// was seen free during an upgrade, and the list has not had it for longer than the grace since. An upgrade that fails
// keeps some of its surge machines.
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

// findSurgeMachines finds the machines that may be surge machines. They are given to no claim, and are no surplus.
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

// bindableOf lists the free machines of the pool that claims may have.
func (d *decider) bindableOf(p *pool) []azure.Machine {
	return slices.DeleteFunc(d.free(p), func(m azure.Machine) bool { return d.maybeSurge[m.ProviderID] })
}
