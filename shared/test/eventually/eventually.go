// SPDX-License-Identifier: Apache-2.0

package eventually

import (
	"testing"
	"time"
)

const (
	// Short is the timeout for the work of one process: the sync of a cache, the answer of a handler.
	Short = 10 * time.Second
	// Long is the timeout for the work of several processes: the convergence of an object in the API server.
	Long = 60 * time.Second
	// Quiet is the time after which an event counts as absent: a hundred times the duration of a reconcile.
	Quiet = 2 * time.Second
	// Tick is the time between two checks of a condition.
	Tick = 50 * time.Millisecond
	// StoryTick is the time between two checks of a story of several processes. Many stories run at once, and each check
	// costs their API servers time.
	StoryTick = 200 * time.Millisecond
	// Look is the time between two checks of a whole cluster. Lists of all kinds at each Tick would be most of the load of
	// the API servers of the end-to-end tests.
	Look = 500 * time.Millisecond
)

// Never fails the test if a check within Quiet returns true. It runs the checks in the goroutine of the test. The last
// check of testify's Never may run concurrently with the rest of the test, and report to a test that has ended.
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
