// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// grow asks for machines: all open claims of a key become one PUT, or as many as the limit of machines in a pool makes
// necessary.
func (d *decider) grow() {
	for _, key := range d.targets() {
		claims := slices.DeleteFunc(slices.Clone(d.open), func(c *Claim) bool { return c.Target != key })
		if hold, ok := d.held(key); ok {
			d.waitOrFail(claims, hold.Err)
			continue
		}
		if until := d.gatherUntil(claims, d.Settings.Gather, func(c *Claim) time.Time { return c.Seen }); d.Now.Before(
			until,
		) {
			d.due(until)
			d.waitEach(claims, "gathering claims for one request")
			continue
		}
		claims = d.growExisting(key, claims)
		claims = d.waitForBusy(key, claims)
		d.createNew(key, claims)
	}
}

// targets lists the keys that open claims ask for, sorted.
func (d *decider) targets() []string {
	var keys []string
	for _, c := range d.open {
		if c.Target != "" && !slices.Contains(keys, c.Target) {
			keys = append(keys, c.Target)
		}
	}
	slices.Sort(keys)
	return keys
}

// gatherUntil is when a burst is over, by the times at which its claims were seen or released.
func (d *decider) gatherUntil(claims []*Claim, gather time.Duration, at func(*Claim) time.Time) time.Time {
	eldest, youngest := at(claims[0]), at(claims[0])
	for _, c := range claims[1:] {
		if t := at(c); t.Before(eldest) {
			eldest = t
		} else if t.After(youngest) {
			youngest = t
		}
	}
	until := youngest.Add(gather)
	if last := eldest.Add(5 * gather); last.Before(until) {
		return last
	}
	return until
}

// growExisting fills the pools that can be written to now and returns the claims that did not fit.
func (d *decider) growExisting(key string, claims []*Claim) []*Claim {
	for _, p := range d.pools {
		if len(claims) == 0 {
			return nil
		}
		if p.Key() != key || p.busy || p.written || p.Autoscaled {
			continue // AKS refuses another count while the autoscaler is on
		}
		if _, ok := d.held(p.Name); ok || d.doubted(p.Name) {
			continue // the claims may still go to another pool; waitForBusy lets them wait for this one first
		}
		from := len(p.Machines)
		if p.Count > from {
			// Azure's count and its list of machines disagree: asking from the lower figure would delete machines that the list
			// does not show yet, asking from the higher would pay for machines that nobody wants. Look again.
			if !d.confirmed(sightCount(p.Name)) {
				continue
			}
		}
		n := min(d.MaxPerPool(key)-from, len(claims))
		if n <= 0 {
			continue
		}
		p.written = true
		d.do(Grow{Pool: p.Name, Key: key, From: from, Claims: names(claims[:n])})
		d.waitEach(claims[:n], fmt.Sprintf("agent pool %s is growing", p.Name))
		claims = claims[n:]
	}
	return claims
}

// waitForBusy lets claims gather for a pool that is busy now and has room, for as long as patience lasts.
func (d *decider) waitForBusy(key string, claims []*Claim) []*Claim {
	for _, p := range d.pools {
		if len(claims) == 0 {
			return nil
		}
		_, held := d.held(p.Name)
		doubt, doubted := d.out.Doubts[p.Name]
		waitable := p.busy || held || doubted || p.Count > len(p.Machines)
		if p.Key() != key || !waitable || p.written || p.Autoscaled || p.State == azure.StateDeleting ||
			(p.op != nil && p.op.Kind == azure.OperationDelete) {
			continue
		}
		occupied := max(p.Count, len(p.Machines))
		if p.op != nil {
			occupied = max(occupied, p.op.Target)
		}
		room := d.MaxPerPool(key) - occupied
		n := min(room, len(claims))
		if n <= 0 {
			continue
		}
		until := claims[0].Created.Add(d.Settings.Patience)
		if !d.Now.Before(until) {
			continue
		}
		d.due(until)
		message := fmt.Sprintf("agent pool %s is busy and will grow next", p.Name)
		if doubted {
			message = fmt.Sprintf(
				"agent pool %s is left alone until the list of its machines is right: %s", p.Name, doubt.Message,
			)
		}
		d.waitEach(claims[:n], message)
		claims = claims[n:]
	}
	return claims
}

// createNew opens next ordinals for the claims that no pool takes.
func (d *decider) createNew(key string, claims []*Claim) {
	for len(claims) > 0 {
		if len(d.taken) >= d.Settings.MaxPools {
			for _, c := range claims {
				d.do(Wait{Claim: c.Name, Reason: ReasonPoolLimitReached, Message: fmt.Sprintf(
					"the cluster has %d agent pools, the most that AKS allows; delete some, or raise maxNodesPerPool", len(d.taken))})
			}
			return
		}
		ord := 0
		for d.taken[Name(key, ord)] {
			ord++
		}
		name := Name(key, ord)
		if hold, ok := d.held(name); ok {
			d.waitOrFail(claims, hold.Err)
			return
		}
		n := min(max(1, d.MaxPerPool(key)), len(claims))
		d.taken[name] = true
		d.do(Create{Pool: name, Key: key, Claims: names(claims[:n])})
		d.waitEach(claims[:n], fmt.Sprintf("agent pool %s is being created", name))
		claims = claims[n:]
	}
}

// wanted says whether an open claim could use the pool's machines.
func (d *decider) wanted(key string) bool {
	return slices.ContainsFunc(d.open, func(c *Claim) bool { return slices.Contains(c.Keys, key) })
}
