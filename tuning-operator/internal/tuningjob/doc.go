// SPDX-License-Identifier: Apache-2.0

// Package tuningjob reconciles TuningJobs. It creates a Job for each TuningJob, follows the Job and its pods, and
// writes the result to the status.
package tuningjob
