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

// limiter assigns the engine's places in order of arrival, and limits the number of waiting requests.
type limiter struct {
	clock    clock.WithDelayedExecution
	places   *semaphore.Weighted
	capacity int
	maxQueue int64
	timeout  time.Duration

	running atomic.Int64
	queued  atomic.Int64
	// served is a moving average of the time that a request keeps its place, in nanoseconds.
	served atomic.Int64
}

func newLimiter(c clock.WithDelayedExecution, capacity, maxQueue int, timeout time.Duration) *limiter {
	return &limiter{
		clock: c, places: semaphore.NewWeighted(int64(capacity)),
		capacity: capacity, maxQueue: int64(maxQueue), timeout: timeout,
	}
}

// acquire takes a place, and waits in the queue if none is free. It returns errQueueFull, errQueueTimeout or the cause
// of ctx.
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

// release frees a place that was used for d.
func (l *limiter) release(d time.Duration) {
	for {
		old := l.served.Load()
		// The newest value has a weight of one eighth, so that one unusual request does not change the estimate much.
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

// retryAfter estimates the time until a place is free: the length of the queue divided by the number of places, times
// the average time of a request. It returns whole seconds between one second and one minute.
func (l *limiter) retryAfter() time.Duration {
	rounds := float64(l.queued.Load()+1) / float64(l.capacity)
	seconds := math.Ceil(rounds * time.Duration(l.served.Load()).Seconds())
	return time.Duration(min(max(seconds, 1), 60)) * time.Second
}
