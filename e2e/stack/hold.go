// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"time"

	"kaito.sh/shared/test/cluster"
)

// labelJob is on every pod of a batch Job.
const labelJob = "batch.kubernetes.io/job-name"

// held keeps a simulated job's first step running until somebody says how the job goes on: no race between the
// simulated kubelet and who decides the outcome.
var held = cluster.Outcome{"fetch": {After: time.Hour}}
