// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"time"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
)

// cleanUp deletes the children of a finished TuningJob: the checkpoints after success, and the Job after
// spec.ttlSecondsAfterFinished.
func (r *Reconciler) cleanUp(ctx context.Context, s *scope) (flow.Result, error) {
	r.forget(s.key)
	if conditions.IsTrue(s.tj, tuningv1alpha1.ConditionSucceeded) {
		if err := r.deleteCheckpoint(ctx, s.tj); err != nil {
			return flow.Stop(), err
		}
	}
	ttl := s.tj.Spec.TTLSecondsAfterFinished
	if s.job == nil || ttl == nil || s.tj.Status.CompletionTime == nil {
		return flow.Stop(), nil
	}
	// The field of the Job is not used: the Job must exist until its result is in the status.
	left := s.tj.Status.CompletionTime.Add(time.Duration(*ttl) * time.Second).Sub(r.clock.Now())
	if left > 0 {
		return flow.StopUntil(left), nil
	}
	return flow.Stop(), r.deleteJob(ctx, s.job)
}

// finished returns whether the TuningJob has succeeded or failed. A finished TuningJob gets no new Job.
func finished(tj *tuningv1alpha1.TuningJob) bool {
	return conditions.IsTrue(tj, tuningv1alpha1.ConditionSucceeded) ||
		conditions.IsTrue(tj, tuningv1alpha1.ConditionFailed)
}
