// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"errors"
	"sync"
)

// intakeBytes bounds the memory of requests' bodies: a quarter of the 512 MiB that a serving pod gives the gateway.
const intakeBytes = 128 << 20

var (
	// errBodyGaveWay says that a body was given up because others needed its memory.
	errBodyGaveWay = errors.New("the body arrived too slowly while others were arriving")
	// errIntakeFull says that a body was refused because there is no memory for it.
	errIntakeFull = errors.New("the bodies of other requests take all the memory that there is for bodies")
)

// intake counts the memory of requests' bodies, from their first bytes until their requests end. Where there is too
// much of it, the body that has been arriving for the longest gives way: an honest one is there in a moment, one that
// is sent slowly on purpose never is. Where none is arriving, the newest is refused.
type intake struct {
	limit int64

	mu       sync.Mutex
	held     int64
	arrivals list.List // of *charge, the oldest first
}

func newIntake(limit int64) *intake { return &intake{limit: limit} }

// charge is the memory of one request's body. It may be used by one goroutine at a time; others may evict it.
type charge struct {
	intake  *intake
	evict   func()
	held    int64
	element *list.Element // nil: it is not arriving, so nothing evicts it
	evicted bool
	arrived bool
}

// begin returns a charge of nothing, for a body that begins to arrive. evict makes its reader fail; it is not called
// after arrive.
func (in *intake) begin(evict func()) *charge { return &charge{intake: in, evict: evict} }

// resize sets what the body takes, in bytes. Less always succeeds. More fails with errBodyGaveWay where the body was
// evicted, and with errIntakeFull where there is no room; the charge is then what it was.
func (c *charge) resize(bytes int64) error {
	in := c.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	if c.evicted {
		return errBodyGaveWay
	}
	before := c.held
	in.held += bytes - before
	c.held = bytes
	for bytes > before && in.held > in.limit {
		front := in.arrivals.Front()
		if front == nil || front.Value.(*charge) == c {
			in.held -= bytes - before
			c.held = before
			return errIntakeFull
		}
		oldest := front.Value.(*charge)
		oldest.evicted = true
		oldest.remove()
		oldest.evict()
	}
	if !c.arrived && c.element == nil {
		c.element = in.arrivals.PushBack(c)
	}
	return nil
}

// arrive says that nothing more is read for now, and whether the body had to give way. What it takes is counted on.
func (c *charge) arrive() (evicted bool) {
	c.intake.mu.Lock()
	defer c.intake.mu.Unlock()
	c.arrived = true
	c.unlist()
	return c.evicted
}

// leave says that the request has ended.
func (c *charge) leave() {
	c.intake.mu.Lock()
	defer c.intake.mu.Unlock()
	c.arrived = true
	c.remove()
}

func (c *charge) unlist() {
	if c.element != nil {
		c.intake.arrivals.Remove(c.element)
		c.element = nil
	}
}

func (c *charge) remove() {
	c.unlist()
	c.intake.held -= c.held
	c.held = 0
}
