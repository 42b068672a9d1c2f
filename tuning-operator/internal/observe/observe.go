// SPDX-License-Identifier: Apache-2.0

// Package observe reads what has become of a TuningJob's Job and pods, and says it in the API's reasons. It is pure: it
// looks at objects and calls nobody.
package observe

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
)

// Verdict of an observation.
type Verdict int

// Verdicts.
const (
	// Waiting: nothing runs yet, or not any more until the next attempt; it goes on by itself.
	Waiting Verdict = iota
	// Running: a container works.
	Running
	// Stuck: a pod can't start until a person acts.
	Stuck
	// Succeeded and Failed are final.
	Succeeded
	Failed
)

// State is what was seen.
type State struct {
	Verdict Verdict
	Reason  string
	Message string
	// Attempts that ended badly, as far as their pods are still there, oldest first.
	Attempts []tuningv1alpha1.Attempt
	// Fetch and Push are the results that pods left, nil where there is none yet.
	Fetch *message.Fetch
	Push  *message.Push
	// Train is the newest word of the trainer, with the time it is of.
	Train     *message.Train
	TrainTime metav1.Time
	// Leader is the pod whose progress counts, while it runs.
	Leader *corev1.Pod
	// Started is when the first container started; zero while none has.
	Started metav1.Time
	// Ended is when the Job ended; zero while it has not.
	Ended metav1.Time
}

// Of looks at a Job and its pods. live is the newest line that the leader reported, nil if there is none.
func Of(tj *tuningv1alpha1.TuningJob, j *batchv1.Job, pods []corev1.Pod, live func(*corev1.Pod) *message.Line) State {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var s State
	for i := range pods {
		s.results(&pods[i])
		s.attempt(&pods[i], int(deref(j.Spec.Completions)))
	}
	slices.SortStableFunc(s.Attempts, func(a, b tuningv1alpha1.Attempt) int { return a.Time.Compare(b.Time.Time) })
	// Jobs and pods come by two watches: where the pods' is behind, it has yet to bring what they have said.
	told := Ended(pods)
	switch {
	case told && condition(j, batchv1.JobComplete) != nil:
		s.complete(tj, j)
	case told && condition(j, batchv1.JobFailed) != nil:
		s.failed(j)
	default:
		s.underWay(tj, j, pods, live)
	}
	return s
}

func deref(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func condition(j *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range j.Status.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

// results collects the messages of containers that ended well, newest pod last.
func (s *State) results(pod *corev1.Pod) {
	for _, c := range statuses(pod) {
		started := startedAt(c)
		if !started.IsZero() && (s.Started.IsZero() || started.Before(&s.Started)) {
			s.Started = started
		}
		t := c.State.Terminated
		if t == nil {
			continue
		}
		m, err := message.Parse(t.Message)
		if err != nil {
			continue
		}
		if m.Train != nil && rank(pod) == 0 {
			s.Train, s.TrainTime = m.Train, t.FinishedAt
		}
		if t.ExitCode != 0 {
			continue
		}
		if m.Fetch != nil {
			s.Fetch = m.Fetch
		}
		if m.Push != nil {
			s.Push = m.Push
		}
	}
}

func startedAt(c corev1.ContainerStatus) metav1.Time {
	switch {
	case c.State.Running != nil:
		return c.State.Running.StartedAt
	case c.State.Terminated != nil:
		return c.State.Terminated.StartedAt
	}
	return metav1.Time{}
}

// statuses are the containers' in the order in which they run.
func statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	all := append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...)
	place := map[string]int{job.Fetch: 1, job.Train: 2, job.Push: 3}
	slices.SortStableFunc(all, func(a, b corev1.ContainerStatus) int { return cmp.Compare(place[a.Name], place[b.Name]) })
	return all
}

// rank of a pod in an indexed Job.
func rank(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return 0
	}
	return n
}

func (s *State) complete(tj *tuningv1alpha1.TuningJob, j *batchv1.Job) {
	if t := j.Status.CompletionTime; t != nil {
		s.Ended = *t
	}
	// An earlier pass may have kept what a pod that is gone has said.
	known := s.Push != nil || (tj.Status.Output != nil && tj.Status.Output.Digest != "")
	if tj.Spec.Output.Image != "" && !known {
		s.Verdict, s.Reason = Failed, tuningv1alpha1.ReasonResultMissing
		s.Message = fmt.Sprintf("the Job %s succeeded but its pods left no digest of %s; look whether the image is there, "+
			"and use a runner image of this operator's version", j.Name, tj.Spec.Output.Image)
		return
	}
	s.Verdict, s.Reason = Succeeded, tuningv1alpha1.ReasonSucceeded
	s.Message = "the adapter is in the output volume"
	if tj.Spec.Output.Image != "" {
		s.Message = "the adapter was pushed to " + tj.Spec.Output.Image
	}
}

// failed carries the reason of the attempt that ended the Job up to the TuningJob.
func (s *State) failed(j *batchv1.Job) {
	s.Verdict = Failed
	c := condition(j, batchv1.JobFailed)
	s.Ended = c.LastTransitionTime
	if c.Reason == batchv1.JobReasonDeadlineExceeded {
		s.Reason = tuningv1alpha1.ReasonDeadlineExceeded
		s.Message = fmt.Sprintf(
			"the run was stopped after spec.activeDeadlineSeconds (%d); create another TuningJob with a longer one, "+
				"and give it the same checkpoint.volumeSource to go on from the last checkpoint",
			deref64(j.Spec.ActiveDeadlineSeconds),
		)
		return
	}
	cause := root(s.Attempts)
	if cause == nil {
		s.Reason, s.Message = tuningv1alpha1.ReasonBackoffLimitExceeded, "the Job failed: "+c.Message
		return
	}
	s.Reason, s.Message = cause.Reason, cause.Message
	if c.Reason == batchv1.JobReasonBackoffLimitExceeded {
		s.Message = fmt.Sprintf("%s (the last of the attempts that spec.backoffLimit allows)", cause.Message)
	}
}

func deref64(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// fallTogether is how long after the first rank of a group the others fall: their collective operations time out or are
// cut at once, and a pod has its grace period on top.
const fallTogether = 5 * 60

// root finds the attempt that explains the end: of those that ended with the last one, the first.
func root(attempts []tuningv1alpha1.Attempt) *tuningv1alpha1.Attempt {
	if len(attempts) == 0 {
		return nil
	}
	last := attempts[len(attempts)-1]
	for i, a := range attempts {
		if ranked(a.Message) && last.Time.Sub(a.Time.Time).Seconds() <= fallTogether {
			return &attempts[i]
		}
	}
	return &attempts[len(attempts)-1]
}

// ranked tells whether an attempt was one of several ranks'.
func ranked(text string) bool { return strings.HasPrefix(text, rankPrefix) }

const rankPrefix = "rank "
