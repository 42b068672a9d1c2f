// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/api/embedded"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/events"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/tuning-operator/internal/job"
)

// lookAgain bounds how long a refusal that no watch will lift is believed: a quota, a policy, a name that is taken.
const lookAgain = 2 * time.Minute

func suspended(tj *tuningv1alpha1.TuningJob) bool { return ptr.Deref(tj.Spec.Suspend, false) }

// tidy does what is left to do for a TuningJob that has ended, and nothing else happens to it any more.
func (r *Reconciler) tidy(ctx context.Context, s *scope) (flow.Result, error) {
	if !finished(s.tj) {
		return flow.Continue(), nil
	}
	r.forget(s.key)
	if conditions.IsTrue(s.tj, tuningv1alpha1.ConditionSucceeded) {
		if err := r.dropClaim(ctx, s.tj); err != nil {
			return flow.Stop(), err
		}
	}
	ttl := s.tj.Spec.TTLSecondsAfterFinished
	if s.job == nil || ttl == nil || s.tj.Status.CompletionTime == nil {
		return flow.Stop(), nil
	}
	// Not by the Job's own field: the Job may go only after its end is in the status.
	left := s.tj.Status.CompletionTime.Add(time.Duration(*ttl) * time.Second).Sub(r.clock.Now())
	if left > 0 {
		return flow.StopUntil(left), nil
	}
	return flow.Stop(), r.deleteJob(ctx, s.job)
}

// dropClaim gives the checkpoints' disk back: the adapter is where it should be. The cluster keeps it for as long as a
// pod that had it is there, ended or not; spec.ttlSecondsAfterFinished says for how long.
func (r *Reconciler) dropClaim(ctx context.Context, tj *tuningv1alpha1.TuningJob) error {
	if !job.OwnClaim(tj) {
		return nil
	}
	pvc := &corev1.PersistentVolumeClaim{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: tj.Namespace, Name: job.ClaimName(tj)}, pvc)
	if err != nil || !metav1.IsControlledBy(pvc, tj) || !pvc.DeletionTimestamp.IsZero() {
		return client.IgnoreNotFound(err)
	}
	if err := r.client.Delete(ctx, pvc, client.Preconditions{UID: &pvc.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting claim %s: %w", pvc.Name, err)
	}
	return nil
}

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

// create makes the Job and what it needs. In a namespace that ends nothing can be made, nor has it to be.
func (r *Reconciler) create(ctx context.Context, s *scope) (flow.Result, error) {
	result, err := r.createAll(ctx, s)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return flow.Stop(), nil
	}
	return result, err
}

// createAll relies on AlreadyExists as its guard: the cache may not have seen the Job yet.
func (r *Reconciler) createAll(ctx context.Context, s *scope) (flow.Result, error) {
	if s.job != nil {
		return flow.Continue(), nil
	}
	if suspended(s.tj) {
		wait(
			s.tj, tuningv1alpha1.ReasonSuspended,
			"spec.suspend is true: nothing runs and nothing is asked for until it is false",
		)
		return flow.Stop(), nil
	}
	var err error
	if s.claim, err = r.chooseClaim(ctx, s.tj); err != nil {
		return flow.Stop(), err
	}
	objects, err := job.Build(
		job.Input{TuningJob: s.tj, Model: s.model, Config: s.config, Claim: s.claim, Options: r.options.Job},
	)
	var invalid *embedded.InvalidError
	if errors.As(err, &invalid) {
		return stall(s, tuningv1alpha1.ReasonInvalidSpec, invalid.Error()), nil
	}
	if err != nil {
		return flow.Stop(), err
	}
	if taken, err := r.applyChild(ctx, s, objects.Policy); taken || err != nil {
		return flow.StopUntil(lookAgain), err
	}
	if objects.Service != nil {
		if taken, err := r.applyChild(ctx, s, objects.Service); taken || err != nil {
			return flow.StopUntil(lookAgain), err
		}
	}
	if objects.Claim != nil {
		if taken, err := r.applyChild(ctx, s, objects.Claim); taken || err != nil {
			return flow.StopUntil(lookAgain), err
		}
	}
	return r.createJob(ctx, s, objects.Job)
}

// applyChild applies an object unless another owner has one of its name. It reads past the cache, which holds only
// objects that this operator made.
func (r *Reconciler) applyChild(ctx context.Context, s *scope, want client.Object) (taken bool, err error) {
	_, err = patch.ApplyOwned(ctx, r.client, r.live, tuningv1alpha1.FieldManager, s.tj, want)
	return stallIfTaken(s, err)
}

// stallIfTaken reports a *patch.TakenError in the status; other errors are returned.
func stallIfTaken(s *scope, err error) (bool, error) {
	var taken *patch.TakenError
	if errors.As(err, &taken) {
		stall(s, tuningv1alpha1.ReasonNameTaken, taken.Error())
		return true, nil
	}
	return false, err
}

func (r *Reconciler) createJob(ctx context.Context, s *scope, want *batchv1.Job) (flow.Result, error) {
	if err := ctrl.SetControllerReference(s.tj, want, r.client.Scheme()); err != nil {
		return flow.Stop(), fmt.Errorf("owning the Job: %w", err)
	}
	err := r.client.Create(ctx, want)
	switch {
	case err == nil:
		for _, note := range s.config.Notes {
			events.Publish(r.recorder, s.tj, corev1.EventTypeNormal, "ConfigKeyUnused", note)
		}
		s.job = want
		return flow.Continue(), nil
	case apierrors.IsAlreadyExists(err):
		return r.existing(ctx, s, want)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return flow.Stop(), err
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		var status apierrors.APIStatus
		text := err.Error()
		if errors.As(err, &status) {
			text = status.Status().Message
		}
		stall(s, tuningv1alpha1.ReasonJobRejected, "the API server refused the Job: "+text)
		return flow.StopUntil(lookAgain), nil
	}
	return flow.Stop(), fmt.Errorf("creating Job %s: %w", want.Name, err)
}

// existing tells apart a Job of ours that the cache has not seen yet, one of an earlier TuningJob of the same name that
// is being collected, and a stranger's.
func (r *Reconciler) existing(ctx context.Context, s *scope, want *batchv1.Job) (flow.Result, error) {
	there := &batchv1.Job{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(want), there); err != nil {
		return flow.Stop(), client.IgnoreNotFound(err)
	}
	owner := metav1.GetControllerOf(there)
	switch {
	case metav1.IsControlledBy(there, s.tj):
		s.job = there
		return flow.Continue(), nil
	case owner != nil && owner.Kind == "TuningJob" && owner.Name == s.tj.Name:
		wait(
			s.tj, tuningv1alpha1.ReasonPending,
			fmt.Sprintf("waiting for the Job %s of an earlier TuningJob of this name to be gone", want.Name),
		)
		return flow.Stop(), nil // its deletion is watched
	}
	_, err := stallIfTaken(s, patch.CheckOwner(r.client, s.tj, there))
	return flow.StopUntil(lookAgain), err
}

// steer passes on what may change while the Job runs.
func (r *Reconciler) steer(ctx context.Context, s *scope) (flow.Result, error) {
	if !s.job.DeletionTimestamp.IsZero() {
		wait(
			s.tj, reasonIf(suspended(s.tj), tuningv1alpha1.ReasonSuspended, tuningv1alpha1.ReasonPending),
			"waiting for the Job "+s.job.Name+" to be gone",
		)
		return flow.Stop(), nil
	}
	if ended(s.job) {
		return flow.Continue(), nil
	}
	if job.Queued(s.tj) && suspended(s.tj) {
		// Kueue alone starts and stops its Jobs, and would start this one again: it gives its place back by going away.
		// The next one goes on from the last checkpoint.
		wait(s.tj, tuningv1alpha1.ReasonSuspended, "spec.suspend is true: the Job was taken out of its queue")
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
		return flow.Stop(), fmt.Errorf("steering Job %s: %w", s.job.Name, client.IgnoreNotFound(err))
	}
	s.job = next
	return flow.Continue(), nil
}

func reasonIf(is bool, then, otherwise string) string {
	if is {
		return then
	}
	return otherwise
}

// ended tells whether the Job controller has given its verdict.
func ended(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
