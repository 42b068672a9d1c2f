// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"time"

	"kaito.sh/shared/test/cluster"
)

// labelJob is on every pod of a batch Job.
const labelJob = "batch.kubernetes.io/job-name"

// held keeps a simulated job's first step running until its outcome is decided, to avoid a race with the simulated
// kubelet.
var held = cluster.Outcome{"fetch": {After: time.Hour}}
