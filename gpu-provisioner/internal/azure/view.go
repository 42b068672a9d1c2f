// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Reader is what the view reads; *ARM is one.
type Reader interface {
	Cluster(ctx context.Context) (Cluster, error)
	Pools(ctx context.Context) ([]Pool, error)
	Machines(ctx context.Context, pool string) ([]Machine, error)
	Spare() bool
}

// View is the cluster as ARM told it: one list of pools and machines that everybody shares.
type View struct {
	Cluster Cluster
	// Pools are all agent pools by name; only those that are Watched have Machines.
	Pools []Pool
	// At is when the list of pools was read.
	At time.Time
	// Complete says that the machines of every pool of ours were read, and that no list of them is in doubt.
	Complete bool
	// Oldest is when the oldest list of machines was read (At when there is no pool of ours). Lists in doubt do not count:
	// see Pool.Doubt.
	Oldest time.Time
}

// Pool returns the pool of that name.
func (v *View) Pool(name string) (*Pool, bool) {
	for i := range v.Pools {
		if v.Pools[i].Name == name {
			return &v.Pools[i], true
		}
	}
	return nil, false
}

// Machine returns the machine of that provider id and its pool.
func (v *View) Machine(providerID string) (Machine, *Pool, bool) {
	for i := range v.Pools {
		if m, ok := v.Pools[i].Machine(providerID); ok {
			return m, &v.Pools[i], true
		}
	}
	return Machine{}, nil, false
}

// Fresh says whether the list of pools, and every list of machines that is not in doubt, is younger than bound. One
// pool whose machines Azure does not list must not stop the work on all others: ask for Pool.Doubt, too.
func (v *View) Fresh(now time.Time, bound time.Duration) bool {
	return !v.At.IsZero() && !v.Oldest.IsZero() && now.Sub(v.Oldest) <= bound
}

// Cache keeps the last view. Reads are cheap copies of slices that nobody changes; Refresh is called by the one pool
// controller.
type Cache struct {
	reader Reader
	clock  clock.PassiveClock

	mu    sync.RWMutex
	view  View
	err   error
	dirty map[string]bool // pools whose machines changed by our own doing
	stale bool            // somebody asked for a fresh view
}

// NewCache returns an empty cache.
func NewCache(r Reader, c clock.PassiveClock) *Cache {
	return &Cache{reader: r, clock: c, dirty: map[string]bool{}, stale: true}
}

// View returns the last view and the error of the last refresh; with an error the view is an older one.
func (c *Cache) View() (View, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.view, c.err
}

// Invalidate asks for the machines of a pool to be read again; "" asks for the list of pools.
func (c *Cache) Invalidate(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
	if pool != "" {
		c.dirty[pool] = true
	}
}

// Doubt has the machines of a pool read again with the next refresh, whenever that is.
func (c *Cache) Doubt(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty[pool] = true
}

// Stale says whether something asked for a fresh view since the last one.
func (c *Cache) Stale() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stale
}

// Refresh reads the cluster, the pools, and the machines of those pools of ours that changed, grow, were asked for, or
// are older than maxAge, oldest first. While the rate limit leaves no room the remaining pools keep their older
// machines, which Oldest tells.
func (c *Cache) Refresh(ctx context.Context, maxAge time.Duration) error {
	c.mu.RLock()
	previous, dirty := c.view, cloneSet(c.dirty)
	c.mu.RUnlock()

	view, read, err := c.observe(ctx, &previous, dirty, maxAge)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	if err != nil {
		return err
	}
	c.view = view
	c.stale = false
	for _, name := range read {
		delete(c.dirty, name)
	}
	for name := range c.dirty {
		if _, ok := view.Pool(name); !ok {
			delete(c.dirty, name)
		} else {
			c.stale = true
		}
	}
	return nil
}

func (c *Cache) observe(
	ctx context.Context, previous *View, dirty map[string]bool, maxAge time.Duration,
) (View, []string, error) {
	now := c.clock.Now()
	cluster, err := c.reader.Cluster(ctx)
	if err != nil {
		return View{}, nil, err
	}
	pools, err := c.reader.Pools(ctx)
	if err != nil {
		return View{}, nil, err
	}
	slices.SortFunc(pools, func(a, b Pool) int { return strings.Compare(a.Name, b.Name) })
	view := View{Cluster: cluster, Pools: pools, At: now, Oldest: now, Complete: true}

	var due []*Pool
	for i := range view.Pools {
		p := &view.Pools[i]
		if !p.Watched() {
			continue
		}
		old, known := previous.Pool(p.Name)
		if known {
			p.Machines, p.MachinesAt, p.Doubt = old.Machines, old.MachinesAt, old.Doubt
		}
		if !known || dirty[p.Name] || p.Doubt != "" || p.arriving() || p.changedSince(old) ||
			now.Sub(p.MachinesAt) >= maxAge {
			due = append(due, p)
		}
	}
	slices.SortStableFunc(due, func(a, b *Pool) int { return a.MachinesAt.Compare(b.MachinesAt) })
	var read []string
	for _, p := range due {
		if !c.reader.Spare() {
			break
		}
		machines, err := c.reader.Machines(ctx, p.Name)
		if err != nil && !Is(err, ClassGone) {
			return View{}, nil, err
		}
		p.listed(machines, err, now)
		read = append(read, p.Name)
	}
	view.summarize()
	return view, read, nil
}

// listed takes up Azure's answer to the list of the pool's machines, and says in Doubt why it cannot be believed.
func (p *Pool) listed(machines []Machine, gone error, now time.Time) {
	p.Doubt = ""
	if gone != nil {
		// The list of pools has the pool. Mostly it was deleted between the two calls, and the next list of pools lacks it;
		// but it was also seen to stay. What was read before stays in the view.
		if p.State != StateDeleting {
			p.Doubt = "Azure lists the agent pool, but answers 404 when its machines are listed"
		}
		return
	}
	var nameless []string
	p.Machines, p.MachinesAt = nil, now
	for _, m := range machines {
		if m.ProviderID == "" {
			nameless = append(nameless, firstOf(m.Name, "(no name)"))
			continue
		}
		p.Machines = append(p.Machines, m)
	}
	if len(nameless) > 0 {
		p.Doubt = fmt.Sprintf("Azure lists %d machine(s) without the id of a VM, among them %s", len(nameless), nameless[0])
	}
}

// summarize fills in Complete and Oldest.
func (v *View) summarize() {
	for i := range v.Pools {
		p := &v.Pools[i]
		switch {
		case !p.Watched():
		case p.Doubt != "":
			v.Complete = false
		case p.MachinesAt.IsZero():
			v.Complete, v.Oldest = false, time.Time{}
			return
		case p.MachinesAt.Before(v.Oldest):
			v.Oldest = p.MachinesAt
		}
	}
}

// Recheck reads only the cluster, for the writes that follow at once.
func (c *Cache) Recheck(ctx context.Context) (Cluster, error) {
	cluster, err := c.reader.Cluster(ctx)
	if err != nil {
		return Cluster{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view.Cluster = cluster
	return cluster, nil
}

func cloneSet(in map[string]bool) map[string]bool {
	out := make(map[string]bool, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}
