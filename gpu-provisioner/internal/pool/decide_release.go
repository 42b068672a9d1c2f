// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// releaseGather is how much longer releases are gathered than requests: core drains the nodes of a burst over seconds,
// and who misses the pool's operation waits minutes for the next.
const releaseGather = 5

// release deletes what core has released and what nobody named for long enough, one request a pool; a pool that would
// be empty goes.
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

// surplus lists the free machines of the pool that were seen free twice and for longer than the grace.
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

// repair sets a count that nothing fills back, and deletes empty pools, after two observations and the grace.
func (d *decider) repair() {
	for _, p := range d.pools {
		if p.busy || p.MachinesAt.IsZero() || d.doubted(p.Name) {
			continue
		}
		missing, empty := p.Count > len(p.Machines), len(p.Machines) == 0
		if !missing && !empty {
			continue
		}
		confirmed := d.confirm(sightCount(p.Name), p.MachinesAt)
		_, held := d.held(p.Name)
		if !confirmed || p.written || held || p.Autoscaled && !empty {
			continue // an autoscaled pool's count is the autoscaler's
		}
		p.written = true
		if empty {
			d.do(Remove{Pool: p.Name})
			continue
		}
		d.do(Reset{Pool: p.Name, Count: len(p.Machines)})
	}
}

// lose gives up on claims whose machine is gone, or did not become a Node in time.
func (d *decider) lose() {
	for _, c := range d.claims {
		if c.ProviderID == "" || c.Deleting || c.Registered {
			continue // core's garbage collection and node repair watch over registered ones
		}
		_, p, found := d.View.Machine(c.ProviderID)
		if !found {
			if !d.View.Oldest.IsZero() && !d.doubted(azure.PoolOf(c.ProviderID)) &&
				d.confirm(sightMachine(c.ProviderID), d.View.Oldest) {
				d.do(
					Lose{
						Claim:   c.Name,
						Reason:  ReasonMachineGone,
						Message: "the machine was deleted before it became a Node: " + c.ProviderID,
					},
				)
			}
			continue
		}
		if c.Bound.IsZero() || d.Settings.JoinTimeout == 0 {
			continue
		}
		until := c.Bound.Add(d.Settings.JoinTimeout)
		// While the operation runs Azure is still at work on the machine; its own timeout bounds that.
		if d.Now.Before(until) || !p.Settled() {
			d.due(until)
			continue
		}
		d.do(Lose{Claim: c.Name, Reason: ReasonNodeNeverJoined, Message: fmt.Sprintf(
			"the machine runs, but no Node of provider id %s has joined within %s; check the node's bootstrap, its subnet and the way to the API server",
			c.ProviderID,
			d.Settings.JoinTimeout,
		)})
	}
}

// abort gives up on puts that hang.
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

// put says since when a put runs on a pool. One that nobody has noted, since the process died right after Azure had
// taken it or the answer was lost, is known by the pool's state alone, and from when that was seen first: without this
// a pool on which such a put hangs would be lost. What others do to a pool, upgrades above all, has other states.
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
