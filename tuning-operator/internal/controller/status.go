// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
	"kaito.sh/tuning-operator/internal/scrape"
)

// observe writes what has become of the Job into the status.
func (r *Reconciler) observe(ctx context.Context, s *scope) (flow.Result, error) {
	look := func(pods []corev1.Pod) observe.State {
		return observe.Of(s.tj, s.job, pods, func(pod *corev1.Pod) *message.Line { return r.newest(s, pod) })
	}
	state := look(s.pods)
	if state.Reason == tuningv1alpha1.ReasonResultMissing {
		told, err := r.askRegistry(ctx, s, &state)
		if err != nil {
			return flow.Stop(), err
		}
		if len(told) > 0 {
			state = look(append(s.pods, told...))
		}
	}
	status := &s.tj.Status
	if status.StartTime == nil && !state.Started.IsZero() {
		status.StartTime = state.Started.DeepCopy()
	}
	r.record(status, state)
	verdict(s.tj, state)
	switch state.Verdict {
	case observe.Succeeded, observe.Failed:
		status.CompletionTime = state.Ended.DeepCopy()
		if state.Ended.IsZero() {
			status.CompletionTime = &metav1.Time{Time: r.clock.Now()}
		}
		r.progress.Forget(s.key)
	case observe.Running:
		r.progress.Track(s.key, state.Leader.UID, state.Leader.Status.PodIP, job.ProgressPort)
	default:
		r.progress.Forget(s.key)
	}
	return flow.Continue(), nil
}

// newest is the newest line of a running pod: of its annotation, for trainers that have somebody write it, else of its
// own endpoint.
func (r *Reconciler) newest(s *scope, pod *corev1.Pod) *message.Line {
	if text := pod.Annotations[job.AnnotationProgress]; text != "" {
		if line, err := scrape.Parse(strings.NewReader(text)); err == nil {
			return &line
		}
	}
	return r.progress.Latest(s.key, pod.UID)
}

// record keeps what pods have told: they go away and the status stays.
func (r *Reconciler) record(status *tuningv1alpha1.TuningJobStatus, state observe.State) {
	reached := int64(0)
	if status.Progress != nil {
		reached = status.Progress.Step
	}
	known := len(status.Attempts)
	merged := observe.Merge(status.Attempts, state.Attempts)
	if state.Train != nil {
		status.Progress = observe.Progress(state.Train, state.TrainTime)
	}
	var current *message.Train
	if state.Verdict == observe.Running || state.Verdict == observe.Succeeded {
		current = state.Train
	}
	observe.Settle(merged, min(known, len(merged)), reached, current)
	status.Attempts = merged
	if state.Fetch != nil || state.Push != nil {
		if status.Output == nil {
			status.Output = &tuningv1alpha1.Output{}
		}
		output(status.Output, state)
	}
}

func output(out *tuningv1alpha1.Output, state observe.State) {
	if f := state.Fetch; f != nil {
		set(&out.BaseModel, f.BaseModel)
		set(&out.BaseRevision, f.BaseRevision)
		set(&out.DatasetDigest, f.DatasetDigest)
	}
	if p := state.Push; p != nil {
		set(&out.BaseModel, p.BaseModel)
		set(&out.BaseRevision, p.BaseRevision)
		set(&out.DatasetDigest, p.DatasetDigest)
		set(&out.Digest, p.Digest)
		if p.Image != "" && p.Digest != "" {
			out.Image = byDigest(p.Image, p.Digest)
		}
		out.Size = p.Size
	}
}

func set(to *string, value string) {
	if value != "" {
		*to = value
	}
}

// byDigest turns registry/repository:tag into registry/repository@digest.
func byDigest(image, digest string) string {
	at := strings.LastIndex(image, "/")
	if tag := strings.LastIndex(image, ":"); tag > at {
		image = image[:tag]
	}
	return image + "@" + digest
}

// verdict sets all conditions, each time.
func verdict(tj *tuningv1alpha1.TuningJob, state observe.State) {
	switch state.Verdict {
	case observe.Succeeded:
		conditions.MarkReady(tj, state.Reason, state.Message)
		outcome(tj, metav1.ConditionFalse, metav1.ConditionTrue, metav1.ConditionFalse, state.Reason, state.Message)
	case observe.Failed:
		conditions.MarkStalled(tj, state.Reason, state.Message)
		outcome(tj, metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, state.Reason, state.Message)
	case observe.Stuck:
		conditions.MarkStalled(tj, state.Reason, state.Message)
		outcome(tj, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionUnknown, state.Reason, state.Message)
	case observe.Running:
		conditions.MarkReconciling(tj, state.Reason, state.Message)
		outcome(tj, metav1.ConditionTrue, metav1.ConditionUnknown, metav1.ConditionUnknown, state.Reason, state.Message)
	default:
		wait(tj, state.Reason, state.Message)
	}
}

// wait says that it goes on by itself, and nothing runs.
func wait(tj *tuningv1alpha1.TuningJob, reason, text string) {
	conditions.MarkReconciling(tj, reason, text)
	outcome(tj, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionUnknown, reason, text)
}

// stall says that a person must act, before anything was created, and ends the pass.
func stall(s *scope, reason, text string) flow.Result {
	conditions.MarkStalled(s.tj, reason, text)
	outcome(s.tj, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionUnknown, reason, text)
	return flow.Stop()
}

func outcome(tj *tuningv1alpha1.TuningJob, running, succeeded, failed metav1.ConditionStatus, reason, text string) {
	conditions.Set(tj, tuningv1alpha1.ConditionRunning, running, reason, text)
	conditions.Set(tj, tuningv1alpha1.ConditionSucceeded, succeeded, reason, text)
	conditions.Set(tj, tuningv1alpha1.ConditionFailed, failed, reason, text)
}
