package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Decide looks at the state and answers with what to do. It is a pure function: the same state gives the same actions, and an action
// that was carried out is not asked for again once the state shows it.
func Decide(s State) Decision {
	d := newDecider(s)
	if !s.View.Cluster.Writable() {
		d.standStill()
		return d.out
	}
	d.bind()
	d.coverByRunning()
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

	claims []*Claim          // by age, then name
	named  map[string]*Claim // machine → the claim that names it
	open   []*Claim          // waiting claims that nothing serves yet
	pools  []*pool           // ours, by ordinal within a key
	taken  map[string]bool   // names of every pool of the cluster, and of those being made
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
		out: Decision{Sightings: map[string]Sighting{}},
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
	return d
}

func (d *decider) indexPools() {
	seen := map[string]bool{}
	for i := range d.View.Pools {
		p := &d.View.Pools[i]
		d.taken[p.Name] = true
		seen[p.Name] = true
		if !p.Ours() {
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
			Pool:    &azure.Pool{Name: name, Count: op.Target, Tags: map[string]string{azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: op.Key}},
			ordinal: ord, op: &op, busy: true, growing: op.Target,
		}
		d.pools = append(d.pools, entry)
	}
	slices.Sort(d.out.Settled)
	slices.SortFunc(d.pools, func(a, b *pool) int {
		return cmp.Or(cmp.Compare(a.Key(), b.Key()), cmp.Compare(a.ordinal, b.ordinal))
	})
}

// standStill: what a cluster that does not run tells of its machines is not believed, and nothing is written to it.
func (d *decider) standStill() {
	d.out.Settled = nil
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

// bind gives free machines to waiting claims, the eldest claim first.
func (d *decider) bind() {
	d.open = slices.DeleteFunc(d.open, func(c *Claim) bool {
		for _, key := range c.Keys {
			for _, p := range d.pools {
				if p.Key() != key {
					continue
				}
				if free := d.free(p); len(free) > 0 {
					d.named[free[0].ProviderID] = c
					d.do(Bind{Claim: c.Name, ProviderID: free[0].ProviderID, Pool: p.Name})
					return true
				}
			}
		}
		return false
	})
}

// coverByRunning lets claims wait for the machines that running operations will bring.
func (d *decider) coverByRunning() {
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

// grow asks for machines: all open claims of a key become one PUT, or as many as the limit of machines in a pool makes necessary.
func (d *decider) grow() {
	for _, key := range d.targets() {
		claims := slices.DeleteFunc(slices.Clone(d.open), func(c *Claim) bool { return c.Target != key })
		if hold, ok := d.held(key); ok {
			d.refused(claims, hold.Err)
			continue
		}
		if until := d.gatherUntil(claims, func(c *Claim) time.Time { return c.Seen }); d.Now.Before(until) {
			d.due(until)
			d.waitEach(claims, "gathering claims for one request")
			continue
		}
		claims = d.growExisting(key, claims)
		claims = d.joinBusy(key, claims)
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
func (d *decider) gatherUntil(claims []*Claim, at func(*Claim) time.Time) time.Time {
	eldest, youngest := at(claims[0]), at(claims[0])
	for _, c := range claims[1:] {
		if t := at(c); t.Before(eldest) {
			eldest = t
		} else if t.After(youngest) {
			youngest = t
		}
	}
	until := youngest.Add(d.Settings.Gather)
	if last := eldest.Add(5 * d.Settings.Gather); last.Before(until) {
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
		if p.Key() != key || p.busy || p.written {
			continue
		}
		if _, ok := d.held(p.Name); ok {
			continue // the claims may still go to another pool; joinBusy lets them wait for this one first
		}
		from := len(p.Machines)
		if p.Count > from {
			// Azure's count and its list of machines disagree: asking from the lower figure would delete machines that the list does
			// not show yet, asking from the higher would pay for machines that nobody wants. Look again.
			if !d.sighted(sightCount(p.Name)) {
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

// joinBusy lets claims gather for a pool that is busy now and has room, for as long as patience lasts.
func (d *decider) joinBusy(key string, claims []*Claim) []*Claim {
	for _, p := range d.pools {
		if len(claims) == 0 {
			return nil
		}
		_, held := d.held(p.Name)
		waitable := p.busy || held || p.Count > len(p.Machines)
		if p.Key() != key || !waitable || p.written || p.State == azure.StateDeleting || (p.op != nil && p.op.Kind == azure.OperationDelete) {
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
		d.waitEach(claims[:n], fmt.Sprintf("agent pool %s is busy and will grow next", p.Name))
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
			d.refused(claims, hold.Err)
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

// release deletes what core has released and what nobody named for long enough, one request a pool; a pool that would be empty goes.
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
			if until := d.gatherUntil(released, func(c *Claim) time.Time { return c.ReleasedAt }); d.Now.Before(until) {
				d.due(until)
				continue
			}
		}
		gone = append(gone, surplus...)
		switch {
		case len(gone) == 0:
		case len(gone) == len(p.Machines) && !d.wanted(p.Key()) && p.Count <= len(p.Machines):
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
	var out []string
	for _, m := range d.free(p) {
		if p.growing > 0 || p.MachinesAt.IsZero() {
			continue
		}
		if d.sight(sightMachine(m.ProviderID), p.MachinesAt) {
			out = append(out, m.ProviderID)
		}
	}
	return out
}

// repair sets a count that nothing fills back, and deletes empty pools, after two observations and the grace.
func (d *decider) repair() {
	for _, p := range d.pools {
		if p.busy || p.MachinesAt.IsZero() {
			continue
		}
		missing, empty := p.Count > len(p.Machines), len(p.Machines) == 0
		if !missing && !empty {
			continue
		}
		confirmed := d.sight(sightCount(p.Name), p.MachinesAt)
		_, held := d.held(p.Name)
		if !confirmed || p.written || held {
			continue
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
			if d.View.Complete && d.sight(sightMachine(c.ProviderID), d.View.Oldest) {
				d.do(Lose{Claim: c.Name, Reason: ReasonMachineGone, Message: "the machine was deleted before it became a Node: " + c.ProviderID})
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
			"the machine runs, but no Node of provider id %s has joined within %s; check the node's bootstrap, its subnet and the way to the API server", c.ProviderID, d.Settings.JoinTimeout)})
	}
}

// abort gives up on puts that hang.
func (d *decider) abort() {
	for _, p := range d.pools {
		if p.op == nil || p.op.Kind != azure.OperationPut || !p.op.Ended.IsZero() || !p.op.Aborted.IsZero() {
			continue
		}
		until := p.op.Started.Add(d.Settings.OperationTimeout)
		if d.Now.Before(until) {
			d.due(until)
			continue
		}
		if _, held := d.held(p.Name); !held {
			d.do(Abort{Pool: p.Name})
		}
	}
}

func sightMachine(providerID string) string { return "machine " + providerID }
func sightCount(pool string) string         { return "count " + pool }

// sight notes that the subject was seen at a time of the view, and says whether it was seen at two times, the grace apart.
func (d *decider) sight(subject string, at time.Time) bool {
	seen := d.Sightings[subject]
	if already, ok := d.out.Sightings[subject]; ok {
		seen = already
	}
	switch {
	case seen.Count == 0:
		seen = Sighting{First: at, Last: at, Count: 1}
	case at.After(seen.Last):
		seen.Last = at
		seen.Count++
	}
	d.out.Sightings[subject] = seen
	if seen.Count >= 2 && seen.Last.Sub(seen.First) >= d.Settings.Grace {
		return true
	}
	d.due(seen.First.Add(d.Settings.Grace))
	return false
}

// sighted asks what sight has answered, or will.
func (d *decider) sighted(subject string) bool {
	seen, ok := d.Sightings[subject]
	return ok && seen.Count >= 2 && seen.Last.Sub(seen.First) >= d.Settings.Grace
}

func (d *decider) held(subject string) (Hold, bool) {
	h, ok := d.Holds[subject]
	if !ok || !d.Now.Before(h.Until) {
		return Hold{}, false
	}
	d.due(h.Until)
	return h, true
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
func (d *decider) refused(claims []*Claim, err *azure.Error) {
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
