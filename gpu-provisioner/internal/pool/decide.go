// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Decide looks at the state and answers with what to do. It is a pure function: the same state gives the same actions,
// and an action that was carried out is not asked for again once the state shows it.
func Decide(s State) Decision {
	d := newDecider(s)
	if !s.View.Cluster.Writable() {
		d.waitForCluster()
		return d.out
	}
	d.findSurgeMachines()
	d.bind()
	d.waitForRunning()
	d.fail()
	d.grow()
	d.release()
	d.repair()
	d.lose()
	d.abort()
	return d.out
}

// decider is one run of Decide: the state, indexed, and what has been decided so far.
type decider struct {
	State
	out Decision

	claims     []*Claim          // by age, then name
	named      map[string]*Claim // machine → the claim that names it
	open       []*Claim          // waiting claims that nothing serves yet
	pools      []*pool           // ours, by ordinal within a key
	taken      map[string]bool   // names of every pool of the cluster, and of those being made
	maybeSurge map[string]bool   // machines that an upgrade may remove again, by provider id
}

type pool struct {
	*azure.Pool
	ordinal int
	op      *Operation
	busy    bool // an operation runs, or its result is not in the view yet
	written bool // this decision writes to it already
	growing int  // machines that a running operation will bring
}

func newDecider(s State) *decider {
	d := &decider{
		State: s, named: map[string]*Claim{}, taken: map[string]bool{},
		out: Decision{Sightings: map[string]Sighting{}, Doubts: map[string]Doubt{}},
	}
	for i := range s.Claims {
		d.claims = append(d.claims, &s.Claims[i])
	}
	slices.SortFunc(d.claims, func(a, b *Claim) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	for _, c := range d.claims {
		if c.ProviderID != "" && d.named[c.ProviderID] == nil {
			d.named[c.ProviderID] = c // the elder one, should two ever name the same machine
		}
		if c.waiting() {
			d.open = append(d.open, c)
		}
	}
	d.indexPools()
	d.findDoubts()
	return d
}

func (d *decider) indexPools() {
	seen := map[string]bool{}
	for i := range d.View.Pools {
		p := &d.View.Pools[i]
		d.taken[p.Name] = true
		seen[p.Name] = true
		if !p.Ours() {
			// Its tags were replaced while an operation of ours ran. What has ended is not waited for.
			if op, ok := d.Operations[p.Name]; ok && !op.Ended.IsZero() && d.View.At.After(op.Ended) {
				d.out.Settled = append(d.out.Settled, p.Name)
			}
			continue
		}
		ord, ok := ordinal(p.Name, p.Key())
		if !ok {
			continue // tagged as ours, but no name of ours: left alone
		}
		entry := &pool{Pool: p, ordinal: ord, busy: !p.Settled()}
		if op, ok := d.Operations[p.Name]; ok {
			if op.Ended.IsZero() || p.MachinesAt.Before(op.Ended) {
				entry.op, entry.busy = &op, true
			} else {
				d.out.Settled = append(d.out.Settled, p.Name)
			}
		}
		if entry.busy && p.State != azure.StateDeleting {
			entry.growing = max(0, p.Count-len(p.Machines))
			if entry.op != nil {
				switch entry.op.Kind {
				case azure.OperationPut, azure.OperationAbort: // an aborted one is told to its claims when that has ended
					entry.growing = max(0, max(p.Count, entry.op.Target)-len(p.Machines))
				default:
					entry.growing = 0
				}
			}
		}
		d.pools = append(d.pools, entry)
	}
	for name, op := range d.Operations {
		if seen[name] {
			continue
		}
		if !op.Ended.IsZero() && !d.View.At.Before(op.Ended) {
			d.out.Settled = append(d.out.Settled, name)
			continue
		}
		// A put that the list of pools does not show yet.
		d.taken[name] = true
		ord, ok := ordinal(name, op.Key)
		if !ok || op.Kind != azure.OperationPut {
			continue
		}
		entry := &pool{
			Pool: &azure.Pool{
				Name:  name,
				Count: op.Target,
				Tags:  map[string]string{azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: op.Key},
			},
			ordinal: ord,
			op:      &op,
			busy:    true,
			growing: op.Target,
		}
		d.pools = append(d.pools, entry)
	}
	slices.Sort(d.out.Settled)
	slices.SortFunc(d.pools, func(a, b *pool) int {
		return cmp.Or(cmp.Compare(a.Key(), b.Key()), cmp.Compare(a.ordinal, b.ordinal))
	})
}

// waitForCluster: what a cluster that does not run tells of its machines is not believed, and nothing is written to it.
func (d *decider) waitForCluster() {
	d.out.Settled, d.out.Doubts = nil, map[string]Doubt{}
	for _, c := range d.open {
		d.do(Wait{Claim: c.Name, Reason: ReasonClusterNotRunning, Message: notRunning(d.View.Cluster)})
	}
}

func notRunning(c azure.Cluster) string {
	return fmt.Sprintf("the cluster is %s (%s); nothing is written until it runs", c.PowerState, c.ProvisioningState)
}

// free lists the machines of the pool that no claim names and nothing deletes.
func (d *decider) free(p *pool) []azure.Machine {
	if p.State == azure.StateDeleting || (p.op != nil && p.op.Kind == azure.OperationDelete) {
		return nil
	}
	var out []azure.Machine
	for _, m := range p.Machines {
		if d.named[m.ProviderID] != nil || (p.op != nil && slices.Contains(p.op.Machines, m.ProviderID)) {
			continue
		}
		out = append(out, m)
	}
	return out
}

// bind gives free machines to waiting claims, the eldest claim first: see bindable.
func (d *decider) bind() {
	d.open = slices.DeleteFunc(d.open, func(c *Claim) bool {
		for _, key := range c.Keys {
			for _, p := range d.pools {
				if p.Key() != key || !p.bindable() {
					continue
				}
				if free := d.bindableOf(p); len(free) > 0 {
					d.named[free[0].ProviderID] = c
					d.do(Bind{Claim: c.Name, ProviderID: free[0].ProviderID, Pool: p.Name})
					return true
				}
			}
		}
		return false
	})
}

// waitForRunning lets claims wait for the machines that running operations will bring.
func (d *decider) waitForRunning() {
	d.open = slices.DeleteFunc(d.open, func(c *Claim) bool {
		for _, key := range c.Keys {
			for _, p := range d.pools {
				if p.Key() == key && p.growing > 0 {
					p.growing--
					d.wait(c, fmt.Sprintf("agent pool %s is growing", p.Name))
					return true
				}
			}
		}
		return false
	})
}

// fail gives up on the claims that no offering is left for.
func (d *decider) fail() {
	d.open = slices.DeleteFunc(d.open, func(c *Claim) bool {
		if c.Target != "" || c.Unavailable == nil {
			return false
		}
		d.do(Fail{Claim: c.Name, Err: c.Unavailable})
		return true
	})
}

func (d *decider) do(a Action) { d.out.Actions = append(d.out.Actions, a) }

// due asks for another look not later than t.
func (d *decider) due(t time.Time) {
	if t.After(d.Now) && (d.out.Next.IsZero() || t.Before(d.out.Next)) {
		d.out.Next = t
	}
}

func (d *decider) wait(c *Claim, message string) {
	d.do(Wait{Claim: c.Name, Reason: ReasonLaunching, Message: message})
}

func (d *decider) waitEach(claims []*Claim, message string) {
	for _, c := range claims {
		d.wait(c, message)
	}
}

// refused tells claims why their request is held back, and gives up on them when Azure will never accept it.
func (d *decider) waitOrFail(claims []*Claim, err *azure.Error) {
	for _, c := range claims {
		switch {
		case err == nil:
			d.wait(c, "retrying")
		case err.Class == azure.ClassTerminal:
			d.do(Fail{Claim: c.Name, Err: err})
		default:
			d.do(Wait{Claim: c.Name, Reason: err.Reason, Message: err.Explain()})
		}
	}
}

func names(claims []*Claim) []string {
	out := make([]string, len(claims))
	for i, c := range claims {
		out[i] = c.Name
	}
	return out
}
