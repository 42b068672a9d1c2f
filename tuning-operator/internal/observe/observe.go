// SPDX-License-Identifier: Apache-2.0

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

// Verdict classifies a State.
type Verdict int

// Verdicts.
const (
	// Waiting: no container runs, and the next one starts without a person.
	Waiting Verdict = iota
	// Running: a container runs.
	Running
	// Stuck: a pod cannot start until a person acts.
	Stuck
	// Succeeded and Failed are final.
	Succeeded
	Failed
)

// State is the observed state of a TuningJob.
type State struct {
	Verdict Verdict
	Reason  string
	Message string
	// Attempts are the failed attempts whose pods still exist, oldest first.
	Attempts []tuningv1alpha1.Attempt
	// Fetch and Push are the results in termination messages. They are nil until there are any.
	Fetch *message.Fetch
	Push  *message.Push
	// Train is the latest report of the trainer, and TrainTime its time.
	Train     *message.Train
	TrainTime metav1.Time
	// Leader is the pod whose progress is reported. It is nil unless it runs.
	Leader *corev1.Pod
	// Started is the time when the first container started. It is zero until then.
	Started metav1.Time
	// Ended is the time when the Job ended. It is zero until then.
	Ended metav1.Time
}

// Of returns the state of a Job and its pods. live returns the latest progress line of the leader, or nil.
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
	// Jobs and pods are cached separately. While the cache of the pods is older, their messages are incomplete.
	podsEnded := Ended(pods)
	switch {
	case podsEnded && condition(j, batchv1.JobComplete) != nil:
		s.complete(tj, j)
	case podsEnded && condition(j, batchv1.JobFailed) != nil:
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

// results collects the messages of containers that succeeded, newest pod last.
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

// statuses returns the statuses of the containers in the order in which they run.
func statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	all := append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...)
	place := map[string]int{job.Fetch: 1, job.Train: 2, job.Push: 3}
	slices.SortStableFunc(all, func(a, b corev1.ContainerStatus) int { return cmp.Compare(place[a.Name], place[b.Name]) })
	return all
}

// rank returns the completion index of a pod.
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
	// An earlier pass may have recorded the message of a pod that is gone.
	known := s.Push != nil || (tj.Status.Output != nil && tj.Status.Output.Digest != "")
	if tj.Spec.Output.Image != "" && !known {
		s.Verdict, s.Reason = Failed, tuningv1alpha1.ReasonResultMissing
		s.Message = fmt.Sprintf("the Job %s succeeded but its pods left no digest of %s; check whether the registry has the image, "+
			"and use the runner image of this operator's version", j.Name, tj.Spec.Output.Image)
		return
	}
	s.Verdict, s.Reason = Succeeded, tuningv1alpha1.ReasonSucceeded
	s.Message = "the adapter is in the output volume"
	if tj.Spec.Output.Image != "" {
		s.Message = "the adapter was pushed to " + tj.Spec.Output.Image
	}
}

// failed sets the reason of the attempt that ended the Job.
func (s *State) failed(j *batchv1.Job) {
	s.Verdict = Failed
	c := condition(j, batchv1.JobFailed)
	s.Ended = c.LastTransitionTime
	if c.Reason == batchv1.JobReasonDeadlineExceeded {
		s.Reason = tuningv1alpha1.ReasonDeadlineExceeded
		s.Message = fmt.Sprintf(
			"the run was stopped after spec.activeDeadlineSeconds (%d); create another TuningJob with a longer deadline, "+
				"and set the same checkpoint.volumeSource to resume from the last checkpoint",
			deref64(j.Spec.ActiveDeadlineSeconds),
		)
		return
	}
	cause := rootCause(s.Attempts)
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

// rankWindow is the time in seconds within which the other ranks of a group fail after the first one: their collective
// operations time out or are interrupted, and each pod has its grace period.
const rankWindow = 5 * 60

// rootCause returns the attempt that explains the failure: the first one of the group that ended with the last attempt.
func rootCause(attempts []tuningv1alpha1.Attempt) *tuningv1alpha1.Attempt {
	if len(attempts) == 0 {
		return nil
	}
	last := attempts[len(attempts)-1]
	for i, a := range attempts {
		if ranked(a.Message) && last.Time.Sub(a.Time.Time).Seconds() <= rankWindow {
			return &attempts[i]
		}
	}
	return &attempts[len(attempts)-1]
}

// ranked returns whether an attempt was that of one of several ranks.
func ranked(text string) bool { return strings.HasPrefix(text, rankPrefix) }

const rankPrefix = "rank "
