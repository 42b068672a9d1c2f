// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// releaseGather is a factor on Gather for releases. Karpenter drains the Nodes of a burst over several seconds, and a
// machine that misses the pool's operation waits minutes for the next one.
const releaseGather = 5

// release deletes machines that Karpenter has released, and surplus machines, with one request for each pool. It
// deletes pools that become empty.
func (d *decider) release() {
	for _, p := range d.pools {
		surplus := d.surplus(p)
		if p.busy || p.written {
			continue
		}
		if hold, ok := d.held(p.Name); ok {
			d.due(hold.Until)
			continue
		}
		var gone []string
		var released []*Claim
		for _, m := range p.Machines {
			if c := d.named[m.ProviderID]; c != nil && c.Released {
				gone, released = append(gone, m.ProviderID), append(released, c)
			}
		}
		if len(released) > 0 {
			if until := d.gatherUntil(
				released, releaseGather*d.Settings.Gather, func(c *Claim) time.Time { return c.ReleasedAt },
			); d.Now.Before(until) {
				d.due(until)
				continue
			}
		}
		gone = append(gone, surplus...)
		switch {
		case len(gone) == 0:
		case len(gone) == len(p.Machines) && !d.wanted(p.Key()) && p.Count <= len(p.Machines) && !d.doubted(p.Name):
			p.written = true
			d.do(Remove{Pool: p.Name, Surplus: surplus})
		default:
			p.written = true
			d.do(Shrink{Pool: p.Name, ProviderIDs: gone, Surplus: surplus})
		}
	}
}

// surplus returns the free machines of the pool that two views, Grace apart, have shown as free.
func (d *decider) surplus(p *pool) []string {
	if d.doubted(p.Name) {
		return nil
	}
	var out []string
	for _, m := range d.free(p) {
		if p.growing > 0 || p.MachinesAt.IsZero() || d.maybeSurge[m.ProviderID] {
			continue
		}
		if d.confirm(sightMachine(m.ProviderID), p.MachinesAt) {
			out = append(out, m.ProviderID)
		}
	}
	return out
}

// repair resets the count of a pool with missing machines, and deletes empty pools, after two views, Grace apart.
func (d *decider) repair() {
	for _, p := range d.pools {
		if p.busy || p.MachinesAt.IsZero() || d.doubted(p.Name) {
			continue
		}
		missing, empty := p.Count > len(p.Machines), len(p.Machines) == 0
		if !missing && !empty {
			continue
		}
		if missing && d.releasing(p.Name) {
			continue // the list may lack a released machine that is there; Azure would choose which one goes
		}
		confirmed := d.confirm(sightCount(p.Name), p.MachinesAt)
		_, held := d.held(p.Name)
		if !confirmed || p.written || held || p.Autoscaled && !empty {
			continue // the autoscaler sets the count
		}
		p.written = true
		if empty {
			d.do(Remove{Pool: p.Name})
			continue
		}
		d.do(Reset{Pool: p.Name, Count: len(p.Machines)})
	}
}

// releasing returns whether a claim that is being deleted has a machine of the pool that the list lacks, and that no
// operation of ours deletes.
func (d *decider) releasing(pool string) bool {
	for _, c := range d.claims {
		if c.Released && azure.PoolOf(c.ProviderID) == pool && !d.deletes(pool, c.ProviderID) && !d.listed(c.ProviderID) {
			return true
		}
	}
	return false
}

// listed returns whether Azure lists the machine.
func (d *decider) listed(providerID string) bool {
	p, ok := d.View.Pool(azure.PoolOf(providerID))
	return ok && slices.ContainsFunc(p.Machines, func(m azure.Machine) bool { return m.ProviderID == providerID })
}

// lose deletes claims whose machine is gone, or did not register as a Node in time.
func (d *decider) lose() {
	for _, c := range d.claims {
		if c.ProviderID == "" || c.Deleting || c.Registered {
			continue // Karpenter's garbage collection and node repair handle registered claims
		}
		_, p, found := d.View.Machine(c.ProviderID)
		if !found {
			if !d.View.Oldest.IsZero() && !d.doubted(azure.PoolOf(c.ProviderID)) &&
				d.confirm(sightMachine(c.ProviderID), d.View.Oldest) {
				d.do(
					Lose{
						Claim:   c.Name,
						Reason:  karpenterv1alpha5.ReasonMachineGone,
						Message: "the machine was deleted before it registered as a Node: " + c.ProviderID,
					},
				)
			}
			continue
		}
		if c.Bound.IsZero() || d.Settings.JoinTimeout == 0 {
			continue
		}
		until := c.Bound.Add(d.Settings.JoinTimeout)
		// While the operation runs, Azure still works on the machine. OperationTimeout limits that.
		if d.Now.Before(until) || !p.Settled() {
			d.due(until)
			continue
		}
		d.do(Lose{Claim: c.Name, Reason: karpenterv1alpha5.ReasonNodeNeverJoined, Message: fmt.Sprintf(
			"the machine with provider ID %s runs, but did not register as a Node within %s. Check the node's bootstrap log, its subnet, and its route to the API server",
			c.ProviderID,
			d.Settings.JoinTimeout,
		)})
	}
}

// abort aborts puts that have timed out.
func (d *decider) abort() {
	for _, p := range d.pools {
		started, running := d.put(p)
		if !running {
			continue
		}
		until := started.Add(d.Settings.OperationTimeout)
		if d.Now.Before(until) {
			d.due(until)
			continue
		}
		if _, held := d.held(p.Name); !held {
			d.do(Abort{Pool: p.Name, Started: started})
		}
	}
}

// put returns since when a put runs on a pool. An operation is not recorded if the process died before it could save
// it, or if the answer was lost. Then the pool's state shows that a put runs, and it counts from the first view that
// showed it. Otherwise a pool whose put never ends would stay busy. Operations of others, such as upgrades, have other
// states.
func (d *decider) put(p *pool) (started time.Time, running bool) {
	if p.op != nil {
		return p.op.Started, p.op.Kind == azure.OperationPut && p.op.Ended.IsZero() && p.op.Aborted.IsZero()
	}
	if p.State != azure.StateCreating && p.State != azure.StateScaling {
		return time.Time{}, false
	}
	d.confirm(sightPut(p.Name), d.View.At)
	return d.out.Sightings[sightPut(p.Name)].First, true
}
