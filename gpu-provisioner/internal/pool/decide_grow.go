// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// grow requests machines. All open claims of a key become one put, or several if they exceed the limit of machines in a
// pool.
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

// targets returns the keys that open claims request, sorted.
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

// gatherUntil returns the end of a burst, from the times at which its claims were seen or released.
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

// growExisting grows the pools that can be written to, and returns the claims that did not fit.
func (d *decider) growExisting(key string, claims []*Claim) []*Claim {
	for _, p := range d.pools {
		if len(claims) == 0 {
			return nil
		}
		if p.Key() != key || p.busy || p.written || p.Autoscaled {
			continue // AKS rejects a count while the autoscaler is on
		}
		if _, ok := d.held(p.Name); ok || d.doubted(p.Name) {
			continue // waitForBusy makes the claims wait for this pool first
		}
		from := len(p.Machines)
		if p.Count > from {
			// Azure's count and its list of machines differ. The lower number would delete machines that the list does not show
			// yet, and the higher number would pay for machines without claims. Wait for a confirmation.
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

// waitForBusy makes claims wait, up to Patience, for a pool that has room but cannot be written to now.
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
				"agent pool %s is not changed until the list of its machines is correct: %s", p.Name, doubt.Message,
			)
		}
		d.waitEach(claims[:n], message)
		claims = claims[n:]
	}
	return claims
}

// createNew creates pools for the remaining claims.
func (d *decider) createNew(key string, claims []*Claim) {
	for len(claims) > 0 {
		if len(d.taken) >= d.Settings.MaxPools {
			for _, c := range claims {
				d.do(Wait{Claim: c.Name, Reason: karpenterv1alpha5.ReasonAgentPoolLimitReached, Message: fmt.Sprintf(
					"the cluster has %d agent pools, which is the limit of AKS. Delete agent pools, or raise maxNodesPerPool", len(d.taken))})
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

// wanted returns whether an open claim could use the pool's machines.
func (d *decider) wanted(key string) bool {
	return slices.ContainsFunc(d.open, func(c *Claim) bool { return slices.Contains(c.Keys, key) })
}
