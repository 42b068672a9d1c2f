// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// pace is how often Azure is read, in ascending order.
type pace int

const (
	idle pace = iota
	// joining: machines are about to register as Nodes.
	joining
	active
)

func (e *Engine) pace(claims []Claim) pace {
	if len(e.operations) > 0 || len(e.sightings) > 0 {
		return active
	}
	out := idle
	if len(e.Doubts().pools) > 0 {
		out = joining
	}
	for i := range claims {
		c := &claims[i]
		if c.waiting() || c.Released {
			return active
		}
		if c.ProviderID != "" && !c.Registered && !c.Deleting {
			out = joining
		}
	}
	view, _ := e.Cache.View()
	for i := range view.Pools {
		p := &view.Pools[i]
		if p.Ours() && (!p.Settled() || len(p.Machines) == 0) {
			return active
		}
	}
	return out
}

// perPool is added to the idle interval for each pool of this operator: reading the machines of every pool must stay
// well below the rate of one call a second that AKS allows.
const perPool = 2 * time.Second

// interval returns the maximum age of the view.
func (e *Engine) interval(pace pace, view *azure.View) time.Duration {
	if pace == active {
		return e.Intervals.Active
	}
	ours := 0
	for i := range view.Pools {
		if view.Pools[i].Ours() {
			ours++
		}
	}
	leisure := max(e.Intervals.Idle, time.Duration(ours)*perPool)
	if pace == joining {
		return min(leisure, joiningFactor*e.Intervals.Active)
	}
	return leisure
}

// joiningFactor is a factor on the active interval while machines register as Nodes. A read could only show that one of
// them is gone.
const joiningFactor = 3

// next returns the time until the next pass.
func (e *Engine) next(p *pass) time.Duration {
	now := e.Clock.Now()
	view, _ := e.Cache.View()
	at := now.Add(e.interval(max(p.pace, e.pace(nil)), &view))
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	earlier(p.decision.Next)
	earlier(e.memory.NextExpiry())
	if e.Cache.Stale() {
		earlier(now.Add(time.Second))
	}
	for _, op := range e.operations {
		if op.Ended.IsZero() {
			earlier(op.NextPoll)
		}
	}
	return max(100*time.Millisecond, at.Sub(now))
}
