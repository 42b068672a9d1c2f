// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Decide returns what to do for a state. It is a pure function: the same state gives the same actions, and an action is
// not repeated once the state shows its effect.
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

// decider is one run of Decide: the indexed state and the actions so far.
type decider struct {
	State
	out Decision

	claims     []*Claim          // oldest first, then by name
	named      map[string]*Claim // machine → the claim that names it
	open       []*Claim          // waiting claims that are not served yet
	pools      []*pool           // pools of this operator, by ordinal within a key
	taken      map[string]bool   // names of all pools in the cluster, and of those being created
	maybeSurge map[string]bool   // machines that an upgrade may delete again, by provider ID
}

type pool struct {
	*azure.Pool
	ordinal int
	op      *Operation
	busy    bool // an operation runs, or the view does not show its result yet
	written bool // this decision already writes to it
	growing int  // machines that a running operation will add
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
			d.named[c.ProviderID] = c // the older claim, if two name the same machine
		}
		if c.waiting() {
			d.open = append(d.open, c)
		}
	}
	d.indexPools()
	d.findDoubts()
	return d
}

// indexPools indexes the pools of this operator: those of the view, and those that an operation creates.
func (d *decider) indexPools() {
	seen := map[string]bool{}
	for i := range d.View.Pools {
		p := &d.View.Pools[i]
		d.taken[p.Name] = true
		seen[p.Name] = true
		d.indexPool(p)
	}
	for name, op := range d.Operations {
		if !seen[name] {
			d.indexUnlisted(name, op)
		}
	}
	slices.Sort(d.out.Settled)
	slices.SortFunc(d.pools, func(a, b *pool) int {
		return cmp.Or(cmp.Compare(a.Key(), b.Key()), cmp.Compare(a.ordinal, b.ordinal))
	})
}

// indexPool indexes a pool of the view.
func (d *decider) indexPool(p *azure.Pool) {
	if !p.Ours() {
		// The tags were replaced while an operation ran. Drop the operation once it has ended.
		if op, ok := d.Operations[p.Name]; ok && !op.Ended.IsZero() && d.View.At.After(op.Ended) {
			d.out.Settled = append(d.out.Settled, p.Name)
		}
		return
	}
	ord, ok := ordinal(p.Name, p.Key())
	if !ok {
		return // our tags, but not our name: leave it alone
	}
	entry := &pool{Pool: p, ordinal: ord, busy: !p.Settled()}
	if op, ok := d.Operations[p.Name]; ok {
		if op.Ended.IsZero() || p.MachinesAt.Before(op.Ended) {
			entry.op, entry.busy = &op, true
		} else {
			d.out.Settled = append(d.out.Settled, p.Name)
		}
	}
	entry.growing = entry.expected()
	d.pools = append(d.pools, entry)
}

// expected returns how many machines the running operation will add to the pool.
func (p *pool) expected() int {
	switch {
	case !p.busy || p.State == azure.StateDeleting:
		return 0
	case p.op == nil:
		return max(0, p.Count-len(p.Machines))
	case p.op.Kind == azure.OperationPut, p.op.Kind == azure.OperationAbort: // claims learn of an abort when it has ended
		return max(0, max(p.Count, p.op.Target)-len(p.Machines))
	}
	return 0
}

// indexUnlisted indexes the pool of an operation that the view does not have.
func (d *decider) indexUnlisted(name string, op Operation) {
	if !op.Ended.IsZero() && !d.View.At.Before(op.Ended) {
		d.out.Settled = append(d.out.Settled, name)
		return
	}
	// A put that the list of pools does not show yet.
	d.taken[name] = true
	ord, ok := ordinal(name, op.Key)
	if !ok || op.Kind != azure.OperationPut {
		return
	}
	tags := map[string]string{azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: op.Key}
	d.pools = append(d.pools, &pool{
		Pool:    &azure.Pool{Name: name, Count: op.Target, Tags: tags},
		ordinal: ord, op: &op, busy: true, growing: op.Target,
	})
}

// waitForCluster makes all claims wait while the cluster is not running: its list of machines is not reliable then.
func (d *decider) waitForCluster() {
	d.out.Settled, d.out.Doubts = nil, map[string]Doubt{}
	for _, c := range d.open {
		d.do(Wait{Claim: c.Name, Reason: karpenterv1alpha5.ReasonClusterNotRunning, Message: notRunning(d.View.Cluster)})
	}
}

func notRunning(c azure.Cluster) string {
	return fmt.Sprintf("the cluster is %s (%s); the operator waits until it runs", c.PowerState, c.ProvisioningState)
}

// free returns the machines of the pool that no claim names and no operation deletes.
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

// bind gives free machines to waiting claims, oldest claim first.
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

// waitForRunning makes claims wait for the machines that running operations will add.
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

// fail fails the claims whose offerings are all unavailable.
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

// due makes the next pass start at t at the latest.
func (d *decider) due(t time.Time) {
	if t.After(d.Now) && (d.out.Next.IsZero() || t.Before(d.out.Next)) {
		d.out.Next = t
	}
}

func (d *decider) wait(c *Claim, message string) {
	d.do(Wait{Claim: c.Name, Reason: karpenterv1alpha5.ReasonLaunching, Message: message})
}

func (d *decider) waitEach(claims []*Claim, message string) {
	for _, c := range claims {
		d.wait(c, message)
	}
}

// waitOrFail reports to claims why their request is delayed, or fails them if Azure will never accept it.
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
