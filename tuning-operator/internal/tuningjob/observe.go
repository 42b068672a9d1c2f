// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
	"kaito.sh/tuning-operator/internal/scrape"
)

// observe sets the status from the state of the Job and its pods.
func (r *Reconciler) observe(ctx context.Context, s *scope) (flow.Result, error) {
	look := func(pods []corev1.Pod) observe.State {
		return observe.Of(s.tj, s.job, pods, func(pod *corev1.Pod) *message.Line { return r.latestLine(s, pod) })
	}
	state := look(s.pods)
	if state.Reason == tuningv1alpha1.ReasonResultMissing {
		answers, err := r.recoverResult(ctx, s, &state)
		if err != nil {
			return flow.Stop(), err
		}
		if len(answers) > 0 {
			state = look(append(s.pods, answers...))
		}
	}
	status := &s.tj.Status
	if status.StartTime == nil && !state.Started.IsZero() {
		status.StartTime = state.Started.DeepCopy()
	}
	record(status, state)
	setVerdict(s.tj, state)
	switch state.Verdict {
	case observe.Succeeded, observe.Failed:
		status.CompletionTime = state.Ended.DeepCopy()
		if state.Ended.IsZero() {
			status.CompletionTime = &metav1.Time{Time: r.clock.Now()}
		}
		r.scraper.Forget(s.key)
	case observe.Running:
		r.scraper.Track(s.key, state.Leader.UID, state.Leader.Status.PodIP, job.ProgressPort)
	default:
		r.scraper.Forget(s.key)
	}
	return flow.Continue(), nil
}

// latestLine returns the latest progress line of a running pod, or nil. The annotation of the pod has priority over the
// line that the scraper read from the pod.
func (r *Reconciler) latestLine(s *scope, pod *corev1.Pod) *message.Line {
	if text := pod.Annotations[job.AnnotationProgress]; text != "" {
		if line, err := scrape.Parse(strings.NewReader(text)); err == nil {
			return &line
		}
	}
	return r.scraper.Latest(s.key, pod.UID)
}

// record copies the results of the pods to the status, which outlives the pods.
func record(status *tuningv1alpha1.TuningJobStatus, state observe.State) {
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
		recordOutput(status.Output, state)
	}
}

func recordOutput(out *tuningv1alpha1.Output, state observe.State) {
	if f := state.Fetch; f != nil {
		setIfKnown(&out.BaseModel, f.BaseModel)
		setIfKnown(&out.BaseRevision, f.BaseRevision)
		setIfKnown(&out.DatasetDigest, f.DatasetDigest)
	}
	if p := state.Push; p != nil {
		setIfKnown(&out.BaseModel, p.BaseModel)
		setIfKnown(&out.BaseRevision, p.BaseRevision)
		setIfKnown(&out.DatasetDigest, p.DatasetDigest)
		setIfKnown(&out.Digest, p.Digest)
		if p.Image != "" && p.Digest != "" {
			out.Image = byDigest(p.Image, p.Digest)
		}
		out.Size, out.ChatTemplate = p.Size, p.ChatTemplate
	}
}

func setIfKnown(to *string, value string) {
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
