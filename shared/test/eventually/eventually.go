// SPDX-License-Identifier: Apache-2.0

// Package eventually holds the only bounds that tests may wait with, so that a slow machine is one edit away.
package eventually

import (
	"testing"
	"time"
)

const (
	// Short bounds what one process does by itself: a cache that syncs, a handler that answers.
	Short = 10 * time.Second
	// Long bounds what crosses several real processes: an object that converges through the API server.
	Long = 60 * time.Second
	// Quiet is how long nothing has to happen before it counts as not happening: a hundred times what a pass of a
	// controller takes.
	Quiet = 2 * time.Second
	// Tick is how often a condition is looked at again.
	Tick = 50 * time.Millisecond
	// Look is how often a whole cluster is looked at again: lists of every kind at each Tick were most of what the
	// end-to-end suites' API servers did.
	Look = 500 * time.Millisecond
)

// Never fails the test when the condition holds at any look within Quiet. It looks in the test's own goroutine, where
// testify's Never leaves its last look behind: that one races with what the test does next, and reports to a test that
// may have ended.
func Never(t testing.TB, condition func() bool, what string) {
	t.Helper()
	tick, end := time.NewTicker(Tick), time.NewTimer(Quiet)
	defer tick.Stop()
	defer end.Stop()
	for {
		if condition() {
			t.Errorf("happened, and never should: %s", what)
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		case <-t.Context().Done():
			return
		}
	}
}
