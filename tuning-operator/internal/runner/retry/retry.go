// SPDX-License-Identifier: Apache-2.0

// Package retry repeats what may succeed later, with growing pauses on an injected clock.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"k8s.io/utils/clock"
)

// Backoff is the pause before each further try: Base, doubled each time, up to Max, with up to a fifth of jitter so
// that the ranks of one job do not knock together.
type Backoff struct {
	Base, Max time.Duration
	// Tries in a row that bring nothing before it gives up; at least 1.
	Tries int
}

// Default is for sources and registries on the internet: five pauses, about a minute in all.
func Default() Backoff { return Backoff{Base: time.Second, Max: 30 * time.Second, Tries: 6} }

// delay before try n (n ≥ 1 has failed).
func (b Backoff) delay(n int) time.Duration {
	d := b.Base
	for range n - 1 {
		if d >= b.Max/2 {
			d = b.Max
			break
		}
		d *= 2
	}
	if d <= 0 {
		return 0
	}
	return min(d, b.Max) + rand.N(d/5+1) // spreads load, guards nothing
}

// After is an error that carries the pause that the other side asked for (Retry-After).
type After struct {
	Err  error
	Wait time.Duration
}

func (a *After) Error() string { return a.Err.Error() }
func (a *After) Unwrap() error { return a.Err }

// maxRetryAfter bounds what a server may make us wait: past it the Job's own backoff is the better place to wait.
const maxRetryAfter = 2 * time.Minute

// Do calls try until it succeeds, its error is not retriable, the context ends, or Tries in a row brought nothing. A
// try that reports progress starts the count again: a transfer that is cut every minute still arrives.
func Do(
	ctx context.Context, clk clock.Clock, b Backoff, retriable func(error) bool,
	try func(context.Context) (progressed bool, err error),
) error {
	barren := 0
	for {
		progressed, err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if progressed {
			barren = 0
		}
		barren++
		if !retriable(err) || barren >= b.Tries {
			return err
		}
		wait := b.delay(barren)
		var after *After
		if errors.As(err, &after) {
			wait = min(max(wait, after.Wait), maxRetryAfter)
		}
		timer := clk.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C():
		}
	}
}
