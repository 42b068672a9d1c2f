// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/patch"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
)

// recoverResult recovers the result of a Job that succeeded and whose pods, which recorded the digest, were deleted
// before the operator read them. A second Job, the result Job, asks the registry for the digest: that saves hours of
// GPU time. recoverResult returns the pods of the result Job that have the answer. Until there are any it marks state
// as waiting. If the registry has no answer it adds the cause to state.
func (r *Reconciler) recoverResult(ctx context.Context, s *scope, state *observe.State) ([]corev1.Pod, error) {
	resultJob := &batchv1.Job{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: s.tj.Namespace, Name: job.ResultJobName(s.tj)}, resultJob)
	switch {
	case apierrors.IsNotFound(err):
		return nil, r.createResultJob(ctx, s, state)
	case err != nil:
		return nil, err
	case !metav1.IsControlledBy(resultJob, s.tj): // of an earlier TuningJob; it is being deleted
		return nil, r.createResultJob(ctx, s, state)
	case !ended(resultJob):
		markRecovering(s.tj, state)
		return nil, nil
	}
	pods, err := r.listPods(ctx, s.tj)
	if err != nil {
		return nil, err
	}
	pods = owned(pods, resultJob)
	answers, problem := readAnswers(pods)
	for _, c := range resultJob.Status.Conditions {
		if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue && problem == "" {
			problem = c.Reason + ": " + c.Message
		}
	}
	switch {
	case len(answers) > 0:
		return answers, nil
	case problem != "":
		markUnrecovered(state, problem)
		return nil, nil
	}
	markRecovering(s.tj, state)
	if !observe.Ended(pods) { // the cache of the pods is older than that of the Job
		return nil, nil
	}
	return nil, r.deleteJob(ctx, resultJob) // this pod was deleted too: ask again
}

// readAnswers returns the pods whose message has a result, and the problem that the other messages describe.
func readAnswers(pods []corev1.Pod) (answers []corev1.Pod, problem string) {
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			t := c.State.Terminated
			if t == nil {
				continue
			}
			switch m, err := message.Parse(t.Message); {
			case err != nil:
				problem = fmt.Sprintf("pod %s left no termination message (exit code %d)", pod.Name, t.ExitCode)
			case m.Push != nil:
				answers = append(answers, pod)
			default:
				problem = m.Reason + ": " + m.Message
			}
		}
	}
	return answers, problem
}

// createResultJob creates the result Job. The cache may not show an existing one yet, so that AlreadyExists is an
// expected answer.
func (r *Reconciler) createResultJob(ctx context.Context, s *scope, state *observe.State) error {
	want := job.ResultJob(s.tj, r.options.Job)
	if err := ctrl.SetControllerReference(s.tj, want, r.client.Scheme()); err != nil {
		return fmt.Errorf("setting the controller of Job %s: %w", want.Name, err)
	}
	err := r.client.Create(ctx, want)
	switch {
	case err == nil, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		markRecovering(s.tj, state)
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.checkResultJob(ctx, s, want, state)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		markUnrecovered(state, err.Error())
		return nil
	}
	return fmt.Errorf("creating Job %s: %w", want.Name, err)
}

// checkResultJob waits for an existing result Job of this TuningJob, or for the deletion of that of an earlier
// TuningJob of the name. It gives up on a Job of any other owner.
func (r *Reconciler) checkResultJob(ctx context.Context, s *scope, want *batchv1.Job, state *observe.State) error {
	existing := &batchv1.Job{}
	err := r.live.Get(ctx, client.ObjectKeyFromObject(want), existing)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil && existing.DeletionTimestamp.IsZero() {
		if taken := patch.CheckOwner(r.client, s.tj, existing); taken != nil {
			markUnrecovered(state, taken.Error())
			return nil
		}
	}
	markRecovering(s.tj, state)
	return nil
}

// markRecovering marks state as waiting for the result Job.
func markRecovering(tj *tuningv1alpha1.TuningJob, s *observe.State) {
	s.Verdict, s.Reason = observe.Waiting, tuningv1alpha1.ReasonPushing
	s.Message = fmt.Sprintf(
		"the adapter was pushed, but the pods that recorded its digest are gone: Job %s asks the registry for the digest of %s",
		job.ResultJobName(tj), tj.Spec.Output.Image,
	)
}

// markUnrecovered adds to the final message why the registry gave no digest.
func markUnrecovered(s *observe.State, problem string) {
	s.Message += "; asking the registry for it failed: " + problem
}
