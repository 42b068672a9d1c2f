// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// hold delays writes to a pool, or for a key, after an error. The delay depends on the error's class and on the number
// of errors in a row.
func (e *Engine) hold(subject string, err *azure.Error) {
	e.failures[subject]++
	e.holds[subject] = Hold{Until: e.Clock.Now().Add(backoff(err, e.failures[subject])), Err: err}
}

func (e *Engine) dropHold(subject string) {
	delete(e.holds, subject)
	delete(e.failures, subject)
}

// dropHoldsOfGonePools drops the holds of pools that do not exist according to both a write and the list of pools: the
// name is free.
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

// retryHolds drops the holds that wait for a user, if Retry was called.
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

// backoff returns the delay after the nth error in a row.
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
		return exponential(15*time.Second, 5*time.Minute) // a user must act
	case azure.ClassGone:
		return exponential(10*time.Second, 5*time.Minute) // the list of pools usually lags by seconds
	case azure.ClassTerminal:
		return exponential(time.Minute, 10*time.Minute)
	default:
		return max(err.RetryAfter, exponential(2*time.Second, 2*time.Minute))
	}
}
