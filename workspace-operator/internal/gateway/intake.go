// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"errors"
	"sync"
)

// intakeBytes limits the memory of bodies: a quarter of the 512 MiB of the gateway's container.
const intakeBytes = 128 << 20

var (
	// errBodyGaveWay means that the body was evicted because others needed its memory.
	errBodyGaveWay = errors.New("the body arrived too slowly while others were arriving")
	// errIntakeFull means that a body was refused because there is no memory for it.
	errIntakeFull = errors.New("the bodies of other requests use all the memory for bodies")
)

// intake counts the memory of bodies, from their first bytes until their requests end. Above the limit, it evicts the
// body that has been arriving for the longest time, because normal bodies arrive quickly. If no body is arriving, it
// refuses the newest.
type intake struct {
	limit int64

	mu       sync.Mutex
	held     int64
	arrivals list.List // of *charge, the oldest first
}

func newIntake(limit int64) *intake { return &intake{limit: limit} }

// charge is the memory of one body. One goroutine at a time may use it; other goroutines may evict it.
type charge struct {
	intake  *intake
	evict   func()
	held    int64
	element *list.Element // nil if it is not arriving, so that it is not evicted
	evicted bool
	arrived bool
}

// begin returns an empty charge for a body that starts to arrive. evict must make its reader fail; it is not called
// after arrive.
func (in *intake) begin(evict func()) *charge { return &charge{intake: in, evict: evict} }

// resize sets the size of the body in bytes. A smaller size always succeeds. A larger one fails with errBodyGaveWay if
// the body was evicted, and with errIntakeFull if there is no memory; the charge is then unchanged.
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

// arrive ends the arrival of the body, and reports whether it was evicted. Its memory is still counted.
func (c *charge) arrive() (evicted bool) {
	c.intake.mu.Lock()
	defer c.intake.mu.Unlock()
	c.arrived = true
	c.unlist()
	return c.evicted
}

// leave ends the charge at the end of the request.
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
