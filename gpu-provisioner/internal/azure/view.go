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

// Reader reads Azure for the view. *ARM implements it.
type Reader interface {
	Cluster(ctx context.Context) (Cluster, error)
	Pools(ctx context.Context) ([]Pool, error)
	Machines(ctx context.Context, pool string) ([]Machine, error)
	Spare() bool
}

// View is the state of the cluster in Azure: its pools and their machines.
type View struct {
	Cluster Cluster
	// Pools are all agent pools, sorted by name. Only those that are Watched have Machines.
	Pools []Pool
	// At is the time at which the list of pools was read.
	At time.Time
	// Complete is true when the machines of all pools of this operator were read and no list is in doubt.
	Complete bool
	// Oldest is the time at which the oldest list of machines was read, or At if there are no pools. Lists in doubt do not
	// count: see Pool.Doubt.
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

// Machine returns the machine with that provider ID and its pool.
func (v *View) Machine(providerID string) (Machine, *Pool, bool) {
	for i := range v.Pools {
		if m, ok := v.Pools[i].Machine(providerID); ok {
			return m, &v.Pools[i], true
		}
	}
	return Machine{}, nil, false
}

// Fresh returns whether the list of pools, and each list of machines that is not in doubt, is younger than bound. A
// pool in doubt does not stop the work on other pools: check Pool.Doubt, too.
func (v *View) Fresh(now time.Time, bound time.Duration) bool {
	return !v.At.IsZero() && !v.Oldest.IsZero() && now.Sub(v.Oldest) <= bound
}

// Cache keeps the last view. Reads return copies of slices that must not be changed. Only the pool controller calls
// Refresh.
type Cache struct {
	reader Reader
	clock  clock.PassiveClock

	mu    sync.RWMutex
	view  View
	err   error
	dirty map[string]bool // pools whose machines this operator changed
	stale bool            // a refresh was requested
}

// NewCache returns an empty cache.
func NewCache(r Reader, c clock.PassiveClock) *Cache {
	return &Cache{reader: r, clock: c, dirty: map[string]bool{}, stale: true}
}

// View returns the last view, and the error of the last refresh. With an error, the view is an older one.
func (c *Cache) View() (View, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.view, c.err
}

// Invalidate makes the next refresh read the machines of a pool again. "": the list of pools.
func (c *Cache) Invalidate(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
	if pool != "" {
		c.dirty[pool] = true
	}
}

// Doubt makes the next refresh, whenever it is due, read the machines of a pool again.
func (c *Cache) Doubt(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty[pool] = true
}

// Stale returns whether Invalidate was called since the last refresh.
func (c *Cache) Stale() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stale
}

// Refresh reads the cluster, the pools, and the machines of those pools that changed, grow, were invalidated, or are
// older than maxAge, oldest first. If the rate limit has no room, the remaining pools keep their older machines, which
// Oldest shows.
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

// listed stores Azure's list of the pool's machines, and sets Doubt if it cannot be correct.
func (p *Pool) listed(machines []Machine, gone error, now time.Time) {
	p.Doubt = ""
	if gone != nil {
		// The list of pools has the pool. Usually it was deleted between the two calls, and the next list of pools lacks it.
		// But pools that remain were observed, too. The view keeps the older machines.
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

// summarize sets Complete and Oldest.
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

// Recheck reads only the cluster, before writes.
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
