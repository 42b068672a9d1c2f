package gateway

import (
	"container/list"
	"sync"
)

// intakeBytes bounds the memory of bodies that are still arriving: a quarter of the 512 MiB that a serving pod gives the gateway.
const intakeBytes = 128 << 20

// intake counts the memory of bodies that are still arriving. Where there is too much of it, the body that has been arriving for
// the longest gives way: an honest one is there in a moment, one that is sent slowly on purpose never is.
type intake struct {
	limit int64

	mu       sync.Mutex
	held     int64
	arrivals list.List // of *arrival, the oldest first
}

func newIntake(limit int64) *intake { return &intake{limit: limit} }

// arrival is one body that is still arriving. The zero value is of an intake that counts nothing.
type arrival struct {
	intake  *intake
	end     func()
	held    int64
	element *list.Element
	evicted bool
}

// arrive returns a body that holds nothing yet. evict makes its reader fail; it is not called after leave.
func (in *intake) arrive(evict func()) *arrival { return &arrival{intake: in, end: evict} }

// hold adds bytes that the body takes.
func (a *arrival) hold(bytes int64) {
	in := a.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	if a.evicted {
		return
	}
	if a.element == nil {
		a.element = in.arrivals.PushBack(a)
	}
	a.held += bytes
	in.held += bytes
	for in.held > in.limit {
		oldest := in.arrivals.Front().Value.(*arrival)
		oldest.evicted = true
		oldest.remove()
		oldest.end()
	}
}

// leave says that the body is there, or will never be, and whether it had to give way.
func (a *arrival) leave() (evicted bool) {
	a.intake.mu.Lock()
	defer a.intake.mu.Unlock()
	a.remove()
	return a.evicted
}

func (a *arrival) remove() {
	if a.element != nil {
		a.intake.arrivals.Remove(a.element)
		a.element = nil
	}
	a.intake.held -= a.held
	a.held = 0
}
