// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// hold keeps writes to a pool or key back after an error; the delay follows the error's class and how often it came in
// a row.
func (e *Engine) hold(subject string, err *azure.Error) {
	e.failures[subject]++
	e.holds[subject] = Hold{Until: e.Clock.Now().Add(backoff(err, e.failures[subject])), Err: err}
}

func (e *Engine) dropHold(subject string) {
	delete(e.holds, subject)
	delete(e.failures, subject)
}

// dropHoldsOfGonePools drops the holds of pools that Azure said are not there, once the list of pools agrees: the name is free.
func (e *Engine) dropHoldsOfGonePools(view *azure.View) {
	for subject, hold := range e.holds {
		if hold.Err == nil || hold.Err.Class != azure.ClassGone {
			continue
		}
		if _, listed := view.Pool(subject); !listed {
			e.dropHold(subject)
		}
	}
}

// retryHolds drops what waits for a person when Retry was called.
func (e *Engine) retryHolds() {
	if !e.retry.Swap(false) {
		return
	}
	for subject, hold := range e.holds {
		if hold.Err.Class == azure.ClassConfig {
			e.dropHold(subject)
		}
	}
}

// backoff is how long a subject rests after its nth error in a row.
func backoff(err *azure.Error, n int) time.Duration {
	exponential := func(first, limit time.Duration) time.Duration {
		d := first
		for range min(n-1, 10) {
			d *= 2
		}
		return min(d, limit)
	}
	switch err.Class {
	case azure.ClassThrottle:
		return max(err.RetryAfter, time.Second)
	case azure.ClassConflict:
		return max(err.RetryAfter, exponential(5*time.Second, time.Minute))
	case azure.ClassConfig:
		return exponential(15*time.Second, 5*time.Minute) // a person must act
	case azure.ClassGone:
		return exponential(10*time.Second, 5*time.Minute) // the list of pools lags, by seconds as a rule
	case azure.ClassTerminal:
		return exponential(time.Minute, 10*time.Minute)
	default:
		return max(err.RetryAfter, exponential(2*time.Second, 2*time.Minute))
	}
}
