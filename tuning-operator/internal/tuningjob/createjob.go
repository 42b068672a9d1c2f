// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/events"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
)

// createJob creates the Job. The cache may not show an existing Job yet, so that AlreadyExists is an expected answer.
func (r *Reconciler) createJob(ctx context.Context, s *scope) (flow.Result, error) {
	want := s.objects.Job
	if err := ctrl.SetControllerReference(s.tj, want, r.client.Scheme()); err != nil {
		return flow.Stop(), fmt.Errorf("setting the controller of Job %s: %w", want.Name, err)
	}
	err := r.client.Create(ctx, want)
	switch {
	case err == nil:
		for _, note := range s.config.Notes {
			events.Publish(r.events, s.tj, corev1.EventTypeNormal, "ConfigKeyUnused", note)
		}
		s.job = want
		return flow.Continue(), nil
	case apierrors.IsAlreadyExists(err):
		return r.adoptJob(ctx, s, want)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return flow.Stop(), nil
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		var status apierrors.APIStatus
		text := err.Error()
		if errors.As(err, &status) {
			text = status.Status().Message
		}
		stall(s, tuningv1alpha1.ReasonJobRejected, "the API server refused the Job: "+text)
		return flow.StopUntil(recheckInterval), nil
	}
	return flow.Stop(), fmt.Errorf("creating Job %s: %w", want.Name, err)
}

// adoptJob continues with the existing Job of this TuningJob. It waits for the Job of an earlier TuningJob of the same
// name to be deleted, and reports a Job of any other owner.
func (r *Reconciler) adoptJob(ctx context.Context, s *scope, want *batchv1.Job) (flow.Result, error) {
	existing := &batchv1.Job{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(want), existing); err != nil {
		return flow.Stop(), client.IgnoreNotFound(err)
	}
	owner := metav1.GetControllerOf(existing)
	switch {
	case metav1.IsControlledBy(existing, s.tj):
		s.job = existing
		return flow.Continue(), nil
	case owner != nil && owner.Kind == "TuningJob" && owner.Name == s.tj.Name:
		wait(
			s.tj, tuningv1alpha1.ReasonPending,
			fmt.Sprintf("waiting for the Job %s of an earlier TuningJob of this name to be deleted", want.Name),
		)
		return flow.Stop(), nil // the deletion is watched
	}
	return stallIfTaken(s, patch.CheckOwner(r.client, s.tj, existing))
}
