// SPDX-License-Identifier: Apache-2.0

package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	clocktesting "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

var errTry = errors.New("try")

func always(error) bool { return true }

// drive steps the fake clock while there is a timer, and returns the total.
func drive(t *testing.T, clk *clocktesting.FakeClock, step time.Duration, done <-chan error) (time.Duration, error) {
	t.Helper()
	deadline := time.After(eventually.Short)
	var passed time.Duration
	for {
		select {
		case err := <-done:
			return passed, err
		case <-deadline:
			require.FailNow(t, "the retries never ended")
		default:
			if clk.HasWaiters() {
				clk.Step(step)
				passed += step
			}
		}
	}
}

func TestDoGivesUpWithoutProgress(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	tries := 0
	done := make(chan error, 1)
	go func() {
		done <- retry.Do(context.Background(), clk, wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 4, Cap: 4 * time.Second}, always,
			func(context.Context) (bool, error) { tries++; return false, errTry })
	}()
	passed, err := drive(t, clk, 100*time.Millisecond, done)
	require.ErrorIs(t, err, errTry)
	assert.Equal(t, 4, tries)
	assert.GreaterOrEqual(t, passed, 7*time.Second, "1 + 2 + 4 seconds at least")
	assert.LessOrEqual(t, passed, 9*time.Second, "with at most a fifth of jitter")
}

func TestProgressResetsTheCount(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	tries := 0
	done := make(chan error, 1)
	go func() {
		done <- retry.Do(context.Background(), clk, wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 2, Cap: time.Second}, always,
			func(context.Context) (bool, error) {
				tries++
				if tries == 20 {
					return true, nil
				}
				return true, errTry
			})
	}()
	_, err := drive(t, clk, time.Second, done)
	require.NoError(t, err)
	assert.Equal(t, 20, tries)
}

func TestRetryAfterIsCapped(t *testing.T) {
	for name, c := range map[string]struct{ asked, atLeast, atMost time.Duration }{
		"a minute":        {time.Minute, time.Minute, 62 * time.Second},
		"a day is capped": {24 * time.Hour, 2 * time.Minute, 122 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clocktesting.NewFakeClock(time.Unix(0, 0))
			tries := 0
			done := make(chan error, 1)
			go func() {
				done <- retry.Do(context.Background(), clk, wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 3, Cap: time.Second}, always,
					func(context.Context) (bool, error) {
						tries++
						if tries > 1 {
							return false, nil
						}
						return false, &retry.After{Err: errTry, Wait: c.asked}
					})
			}()
			passed, err := drive(t, clk, time.Second, done)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, passed, c.atLeast)
			assert.LessOrEqual(t, passed, c.atMost)
		})
	}
}

func TestFinalErrorsAreNotRetried(t *testing.T) {
	tries := 0
	err := retry.Do(context.Background(), clocktesting.NewFakeClock(time.Unix(0, 0)), retry.Default(),
		func(error) bool { return false }, func(context.Context) (bool, error) { tries++; return false, errTry })
	require.ErrorIs(t, err, errTry)
	assert.Equal(t, 1, tries)
}

func TestCancelEndsThePause(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	done := make(chan error, 1)
	go func() {
		done <- retry.Do(ctx, clk, retry.Default(), always, func(context.Context) (bool, error) { return false, errTry })
	}()
	require.Eventually(t, clk.HasWaiters, eventually.Short, eventually.Tick)
	cancel()
	select {
	case err := <-done:
		assert.ErrorIs(t, err, context.Canceled)
	case <-time.After(eventually.Short):
		assert.Fail(t, "the pause outlived its context")
	}
}
