// SPDX-License-Identifier: Apache-2.0

// Package suite_test tells, as stories of users, what the three operators do together: the whole stack on one machine,
// each operator a process with the rights of its own service account.
package suite_test

import (
	"context"
	"time"
)

// quiet lets a period pass in which nothing may happen: the absence of events has no event to wait for.
func quiet(ctx context.Context, period time.Duration) {
	timer := time.NewTimer(period)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
