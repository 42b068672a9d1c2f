// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"time"

	"kaito.sh/shared/test/cluster"
)

// labelJob is on every pod of a batch Job.
const labelJob = "batch.kubernetes.io/job-name"

// held keeps the first step of a simulated Job running until its outcome is decided: fetch of a Job that tunes, resolve
// of a Job that asks the registry. Without it the simulated kubelet could end the pod first, without a message.
var held = cluster.Outcome{"fetch": {After: time.Hour}, "resolve": {After: time.Hour}}
