// Package eventually holds the only bounds that tests may wait with, so that a slow machine is one edit away.
package eventually

import "time"

const (
	// Short bounds what one process does by itself: a cache that syncs, a handler that answers.
	Short = 10 * time.Second
	// Long bounds what crosses several real processes: an object that converges through the API server.
	Long = 60 * time.Second
	// Tick is how often a condition is looked at again.
	Tick = 50 * time.Millisecond
)
