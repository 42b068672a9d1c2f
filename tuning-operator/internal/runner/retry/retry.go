// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
)

// Default returns the backoff for sources and registries on the internet: six attempts with pauses of 1, 2, 4, 8 and
// 16 seconds. Up to a fifth of jitter spreads the requests of the ranks of one job.
func Default() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 30 * time.Second}
}

// After is an error with the pause that the server requested (Retry-After).
type After struct {
	Err  error
	Wait time.Duration
}

func (a *After) Error() string { return a.Err.Error() }
func (a *After) Unwrap() error { return a.Err }

// maxRetryAfter bounds the pause that a server may request. After a longer one the backoff of the Job applies.
const maxRetryAfter = 2 * time.Minute

// Do calls attempt until it succeeds, its error is not retriable, the context ends, or b.Steps attempts in a row fail
// without progress. An attempt that makes progress resets the count and the pauses: a transfer that is interrupted
// every minute still completes.
func Do(
	ctx context.Context, clk clock.Clock, b wait.Backoff, retriable func(error) bool,
	attempt func(context.Context) (progressed bool, err error),
) error {
	failures, pause := 0, b.DelayFunc()
	for {
		progressed, err := attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if progressed {
			failures, pause = 0, b.DelayFunc()
		}
		failures++
		if !retriable(err) || failures >= b.Steps {
			return err
		}
		delay := pause()
		var after *After
		if errors.As(err, &after) {
			delay = min(max(delay, after.Wait), maxRetryAfter)
		}
		timer := clk.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C():
		}
	}
}
