// SPDX-License-Identifier: Apache-2.0

package controller

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
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
)

// askRegistry finds the result of a Job that has succeeded and whose pods are gone with their word of it: somebody
// deleted them, or their node went, while this operator did not run. The registry has the adapter, and hours of a GPU
// need not be repeated. It returns the pods that tell of it. While there are none the state says that it is asked; and
// where it can't be, or does not know either, why that is.
func (r *Reconciler) askRegistry(ctx context.Context, s *scope, state *observe.State) ([]corev1.Pod, error) {
	asked := &batchv1.Job{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: s.tj.Namespace, Name: job.ResolveName(s.tj)}, asked)
	switch {
	case apierrors.IsNotFound(err):
		return nil, r.ask(ctx, s, state)
	case err != nil:
		return nil, err
	case !metav1.IsControlledBy(asked, s.tj): // an earlier TuningJob's, which is being collected
		return nil, r.ask(ctx, s, state)
	case !ended(asked):
		asking(s.tj, state)
		return nil, nil
	}
	var pods corev1.PodList
	if err := r.client.List(
		ctx, &pods, client.InNamespace(s.tj.Namespace), client.MatchingLabels{job.LabelTuningJob: job.Name(s.tj)},
	); err != nil {
		return nil, err
	}
	own := owned(pods.Items, asked)
	told, why := answers(own)
	for _, c := range asked.Status.Conditions {
		if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue && why == "" {
			why = c.Reason + ": " + c.Message
		}
	}
	switch {
	case len(told) > 0:
		return told, nil
	case why != "":
		unasked(state, why)
		return nil, nil
	}
	asking(s.tj, state)
	if !observe.Ended(own) { // the watch of pods is behind
		return nil, nil
	}
	return nil, r.deleteJob(ctx, asked) // this pod is gone as well: it costs little to ask again
}

// answers are the pods that tell of the result, and what others have said instead.
func answers(pods []corev1.Pod) (told []corev1.Pod, why string) {
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			t := c.State.Terminated
			if t == nil {
				continue
			}
			switch m, err := message.Parse(t.Message); {
			case err != nil:
				why = fmt.Sprintf("pod %s left no word either (exit code %d)", pod.Name, t.ExitCode)
			case m.Push != nil:
				told = append(told, pod)
			default:
				why = m.Reason + ": " + m.Message
			}
		}
	}
	return told, why
}

// ask creates the Job. AlreadyExists is its guard: the cache may not have seen it yet.
func (r *Reconciler) ask(ctx context.Context, s *scope, state *observe.State) error {
	want := job.ResolveJob(s.tj, r.options.Job)
	if err := ctrl.SetControllerReference(s.tj, want, r.client.Scheme()); err != nil {
		return fmt.Errorf("owning the Job %s: %w", want.Name, err)
	}
	err := r.client.Create(ctx, want)
	switch {
	case err == nil, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		asking(s.tj, state)
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.asked(ctx, s, want, state)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		unasked(state, err.Error())
		return nil
	}
	return fmt.Errorf("creating Job %s: %w", want.Name, err)
}

// asked tells apart a Job of ours that the cache has not seen yet, one of an earlier TuningJob of the name, whose
// deletion is watched, and a stranger's.
func (r *Reconciler) asked(ctx context.Context, s *scope, want *batchv1.Job, state *observe.State) error {
	there := &batchv1.Job{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(want), there); client.IgnoreNotFound(err) != nil {
		return err
	}
	if there.Name != "" && !metav1.IsControlledBy(there, s.tj) && there.DeletionTimestamp.IsZero() {
		unasked(state, fmt.Sprintf("there is a Job %s that is not this TuningJob's", want.Name))
		return nil
	}
	asking(s.tj, state)
	return nil
}

// asking is the state while the registry is asked.
func asking(tj *tuningv1alpha1.TuningJob, s *observe.State) {
	s.Verdict, s.Reason = observe.Waiting, tuningv1alpha1.ReasonPushing
	s.Message = fmt.Sprintf(
		"the adapter is pushed, and the pods are gone with their word of it: Job %s asks the registry for the digest of %s",
		job.ResolveName(tj), tj.Spec.Output.Image,
	)
}

// unasked adds why the registry has not answered to what ends the TuningJob.
func unasked(s *observe.State, why string) {
	s.Message += "; the registry was asked in vain: " + why
}
