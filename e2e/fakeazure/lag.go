// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ListLag sets the time by which lists of machines lag behind, on the cloud's clock: a machine is listed that much
// later, and a deleted machine stays listed that much longer. The pool's count and state do not lag, so that a settled
// pool can list other machines than it has.
func (s *Server) ListLag(lag time.Duration) { s.act(Event{ListLag: &metav1.Duration{Duration: lag}}) }

// ghost is a deleted machine that a lagging list still has.
type ghost struct {
	Machine *machine  `json:"machine"`
	Gone    time.Time `json:"gone"`
}

// maxGhosts limits the number of deleted machines that a pool keeps.
const maxGhosts = 100

func (p *pool) haunt(m *machine, now time.Time) {
	p.Ghosts = append(p.Ghosts, ghost{Machine: m, Gone: now})
	p.Ghosts = p.Ghosts[max(0, len(p.Ghosts)-maxGhosts):]
}

// listed returns the machines that a list has now, in the order of their numbers.
func (s *Server) listed(p *pool) []*machine {
	seen := s.now().Add(-s.lag)
	var out []*machine
	for _, m := range p.Machines {
		if !m.Listed.After(seen) {
			out = append(out, m)
		}
	}
	if s.lag > 0 {
		for _, g := range p.Ghosts {
			if g.Gone.After(seen) && !g.Machine.Listed.After(seen) {
				out = append(out, g.Machine)
			}
		}
	}
	slices.SortFunc(out, func(a, b *machine) int { return a.Index - b.Index })
	return out
}

// garbled returns a list without the entries that faults omit. p is nil for the list of pools.
func (s *Server) garbled(c *call, p *pool, items []item) []item {
	f := s.take(c.Request, p, (*Fault).ofLists)
	switch {
	case f == nil:
		return items
	case f.Empty:
		return nil
	}
	items = items[:max(0, len(items)-f.Short)]
	for i := range min(f.NoResourceID, len(items)) {
		if entry, ok := items[i].value.(map[string]any); ok {
			if properties, ok := entry["properties"].(map[string]any); ok {
				delete(properties, "resourceId")
			}
		}
	}
	return items
}
