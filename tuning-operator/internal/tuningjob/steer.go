// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/job"
)

// steer copies to the Job the fields of the spec that may change while the Job runs.
func (r *Reconciler) steer(ctx context.Context, s *scope) (flow.Result, error) {
	if !s.job.DeletionTimestamp.IsZero() {
		reason := tuningv1alpha1.ReasonPending
		if suspended(s.tj) {
			reason = tuningv1alpha1.ReasonSuspended
		}
		wait(s.tj, reason, "waiting for the Job "+s.job.Name+" to be deleted")
		return flow.Stop(), nil
	}
	if ended(s.job) {
		return flow.Continue(), nil
	}
	if job.Queued(s.tj) && suspended(s.tj) {
		// Only Kueue starts and stops its Jobs, and it would start this one again. Deleting the Job releases its quota. The
		// next Job resumes from the last checkpoint.
		wait(s.tj, tuningv1alpha1.ReasonSuspended, "spec.suspend is true: the Job was removed from its queue")
		return flow.Stop(), r.deleteJob(ctx, s.job)
	}
	next := s.job.DeepCopy()
	if !job.Queued(s.tj) {
		next.Spec.Suspend = ptr.To(suspended(s.tj))
	}
	next.Spec.ActiveDeadlineSeconds = s.tj.Spec.ActiveDeadlineSeconds
	if ptr.Equal(next.Spec.Suspend, s.job.Spec.Suspend) &&
		ptr.Equal(next.Spec.ActiveDeadlineSeconds, s.job.Spec.ActiveDeadlineSeconds) {
		return flow.Continue(), nil
	}
	if err := r.client.Patch(ctx, next, client.MergeFrom(s.job)); err != nil {
		return flow.Stop(), fmt.Errorf("patching Job %s: %w", s.job.Name, client.IgnoreNotFound(err))
	}
	s.job = next
	return flow.Continue(), nil
}

// deleteJob deletes a Job and, in the background, its pods.
func (r *Reconciler) deleteJob(ctx context.Context, j *batchv1.Job) error {
	if !j.DeletionTimestamp.IsZero() {
		return nil
	}
	err := r.client.Delete(
		ctx, j, client.Preconditions{UID: &j.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground),
	)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Job %s: %w", j.Name, err)
	}
	return nil
}

// ended returns whether the Job is complete or failed.
func ended(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
