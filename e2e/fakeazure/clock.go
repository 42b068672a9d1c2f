// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"time"

	"k8s.io/utils/clock"
)

// Accelerated returns a clock that runs faster by a factor, so that AKS's minutes pass in seconds with the same
// proportions. A factor of 1 or less returns the real clock.
func Accelerated(factor float64) clock.WithTicker {
	if factor <= 1 {
		return clock.RealClock{}
	}
	return &accelerated{factor: factor, from: time.Now()}
}

type accelerated struct {
	real   clock.RealClock
	factor float64
	from   time.Time
}

func (c *accelerated) Now() time.Time {
	return c.from.Add(time.Duration(float64(time.Since(c.from)) * c.factor))
}

func (c *accelerated) Since(t time.Time) time.Duration        { return c.Now().Sub(t) }
func (c *accelerated) After(d time.Duration) <-chan time.Time { return c.real.After(c.length(d)) }
func (c *accelerated) Sleep(d time.Duration)                  { c.real.Sleep(c.length(d)) }
func (c *accelerated) Tick(d time.Duration) <-chan time.Time  { return c.real.Tick(c.length(d)) }
func (c *accelerated) NewTicker(d time.Duration) clock.Ticker { return c.real.NewTicker(c.length(d)) }

func (c *accelerated) NewTimer(d time.Duration) clock.Timer {
	return &acceleratedTimer{Timer: c.real.NewTimer(c.length(d)), clock: c}
}

// length converts a duration to real time. It never returns 0, which a ticker does not accept.
func (c *accelerated) length(d time.Duration) time.Duration {
	return max(time.Duration(float64(d)/c.factor), 1)
}

type acceleratedTimer struct {
	clock.Timer
	clock *accelerated
}

func (t *acceleratedTimer) Reset(d time.Duration) bool { return t.Timer.Reset(t.clock.length(d)) }
