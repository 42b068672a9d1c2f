// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"
)

var (
	errQueueFull    = errors.New("the queue is full")
	errQueueTimeout = errors.New("the wait in the queue took too long")
)

// limiter hands out the engine's places, first come first served, and bounds how many may wait for one.
type limiter struct {
	clock    clock.WithDelayedExecution
	places   *semaphore.Weighted
	capacity int
	maxQueue int64
	timeout  time.Duration

	running atomic.Int64
	queued  atomic.Int64
	// served is a moving average of how long a place is held, in nanoseconds.
	served atomic.Int64
}

func newLimiter(c clock.WithDelayedExecution, capacity, maxQueue int, timeout time.Duration) *limiter {
	return &limiter{
		clock: c, places: semaphore.NewWeighted(int64(capacity)),
		capacity: capacity, maxQueue: int64(maxQueue), timeout: timeout,
	}
}

// acquire takes a place, waiting in the queue where none is free. It returns errQueueFull, errQueueTimeout or the
// cause of ctx's end.
func (l *limiter) acquire(ctx context.Context) error {
	if l.places.TryAcquire(1) {
		l.running.Add(1)
		return nil
	}
	defer l.queued.Add(-1)
	if l.queued.Add(1) > l.maxQueue {
		return errQueueFull
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := l.clock.AfterFunc(l.timeout, func() { cancel(errQueueTimeout) })
	defer timer.Stop()
	if err := l.places.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	l.running.Add(1)
	return nil
}

// release gives back a place that was held for d.
func (l *limiter) release(d time.Duration) {
	for {
		old := l.served.Load()
		// One eighth of the newest: a burst of odd requests moves the estimate, one alone does not.
		next := old + (int64(d)-old)/8
		if old == 0 {
			next = int64(d)
		}
		if l.served.CompareAndSwap(old, next) {
			break
		}
	}
	l.running.Add(-1)
	l.places.Release(1)
}

// retryAfter estimates when a place will be free for one more: the queue's length, in rounds of all places, times how
// long a place is held. Between one second and one minute, in whole seconds.
func (l *limiter) retryAfter() time.Duration {
	rounds := float64(l.queued.Load()+1) / float64(l.capacity)
	seconds := math.Ceil(rounds * time.Duration(l.served.Load()).Seconds())
	return time.Duration(min(max(seconds, 1), 60)) * time.Second
}
