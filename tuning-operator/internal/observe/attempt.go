// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/redact"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
)

// disruptions are the reasons of the condition DisruptionTarget (Kubernetes, "Pod disruption conditions").
var disruptions = map[string]struct{ reason, text string }{
	"PreemptionByScheduler":  {tuningv1alpha1.ReasonPreempted, "a pod of higher priority preempted it"},
	"EvictionByEvictionAPI":  {tuningv1alpha1.ReasonEvicted, "the pod was evicted, for example by a drain"},
	"DeletionByTaintManager": {tuningv1alpha1.ReasonNodeLost, "the node was tainted, for example as unreachable"},
	"DeletionByPodGC":        {tuningv1alpha1.ReasonNodeLost, "the node is gone"},
	"TerminationByKubelet":   {tuningv1alpha1.ReasonEvicted, "the node ran out of a resource or shut down"},
}

// attempt records a failed pod. All fields come from the pod, so that a repeated observation gives the same attempt.
func (s *State) attempt(pod *corev1.Pod, ranks int) {
	if pod.Status.Phase != corev1.PodFailed {
		return
	}
	a := tuningv1alpha1.Attempt{Time: &metav1.Time{Time: endedAt(pod)}}
	a.Reason, a.Message = cause(pod)
	a.Message = redact.Text(a.Message) // the end of a log may contain signed URLs
	if t := trainOf(pod); t != nil {
		a.FromStep, a.ToStep = t.FromStep, t.Step
		a.LostSteps = max(t.Step-max(t.CheckpointStep, t.FromStep), 0)
	}
	if ranks > 1 {
		a.Message = fmt.Sprintf("%s%d: %s", rankPrefix, rank(pod), a.Message)
	}
	s.Attempts = append(s.Attempts, a)
}

func trainOf(pod *corev1.Pod) *message.Train {
	for _, c := range statuses(pod) {
		if c.Name == job.Train && c.State.Terminated != nil {
			if m, err := message.Parse(c.State.Terminated.Message); err == nil {
				return m.Train
			}
		}
	}
	return nil
}

// endedAt returns the time when the last container ended, or when the pod was marked for deletion.
func endedAt(pod *corev1.Pod) time.Time {
	var at time.Time
	for _, c := range statuses(pod) {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(at) {
			at = t.FinishedAt.Time
		}
	}
	if !at.IsZero() {
		return at
	}
	if c := podCondition(pod, corev1.DisruptionTarget); c != nil {
		return c.LastTransitionTime.Time
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Time
	}
	return pod.CreationTimestamp.Time
}

func podCondition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i, c := range pod.Status.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// cause returns the reason of a failed pod: a disruption, the message of a container, or its exit code, in this order.
func cause(pod *corev1.Pod) (reason, text string) {
	if c := podCondition(pod, corev1.DisruptionTarget); c != nil {
		d, known := disruptions[c.Reason]
		if !known {
			d.reason, d.text = tuningv1alpha1.ReasonEvicted, "the pod was disrupted ("+c.Reason+")"
		}
		return d.reason, join(d.text, c.Message)
	}
	for _, c := range statuses(pod) {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return containerCause(c.Name, t)
		}
	}
	if pod.Status.Reason == "Evicted" {
		return tuningv1alpha1.ReasonEvicted, pod.Status.Message
	}
	return tuningv1alpha1.ReasonPodFailed, join("the pod failed", join(pod.Status.Reason, pod.Status.Message))
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ": " + b
}

// fallbacks are the reasons for containers that ended without a message.
var fallbacks = map[string]string{
	job.Fetch: tuningv1alpha1.ReasonFetchFailed,
	job.Train: tuningv1alpha1.ReasonTrainingFailed,
	job.Push:  tuningv1alpha1.ReasonPushFailed,
}

func containerCause(name string, t *corev1.ContainerStateTerminated) (reason, text string) {
	if t.Reason == "OOMKilled" {
		return tuningv1alpha1.ReasonOutOfMemory, fmt.Sprintf(
			"container %s exceeded its memory limit; raise spec.resources.requests.memory, "+
				"choose a size with more memory, or lower the dataset's or the batch's size",
			name,
		)
	}
	reason = fallbacks[name]
	if reason == "" {
		reason = tuningv1alpha1.ReasonPodFailed
	}
	if m, err := message.Parse(t.Message); err == nil {
		switch {
		case known(m.Reason):
			return m.Reason, m.Message
		case m.Reason != "":
			return reason, join(
				fmt.Sprintf("container %s gave the reason %q, which is not a known reason", name, m.Reason), m.Message,
			)
		case m.Message != "":
			return reason, join(fmt.Sprintf("container %s ended with exit code %d", name, t.ExitCode), m.Message)
		}
	}
	return reason, join(fmt.Sprintf("container %s ended with exit code %d", name, t.ExitCode), tail(t.Message))
}

// maxTail is the number of bytes that are kept of a log that the kubelet used as the message.
const maxTail = 1000

func tail(s string) string {
	return excerpt.Tail(strings.TrimSpace(s), maxTail)
}

func metaTime(t time.Time) metav1.Time { return metav1.Time{Time: t} }

// maxAttempts is the number of attempts that a status keeps.
const maxAttempts = 10

// Merge returns known with the attempts of seen that are not in it. Known attempts may be older than all existing pods.
// Their end, reason and message identify them. Fields that Settle has set are kept.
func Merge(known, seen []tuningv1alpha1.Attempt) []tuningv1alpha1.Attempt {
	out := append([]tuningv1alpha1.Attempt(nil), known...)
	for _, a := range seen {
		if !contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) > maxAttempts {
		out = out[len(out)-maxAttempts:]
	}
	return out
}

func contains(all []tuningv1alpha1.Attempt, a tuningv1alpha1.Attempt) bool {
	for _, b := range all {
		if b.Reason == a.Reason && b.Message == a.Message && b.Time.Unix() == a.Time.Unix() {
			return true
		}
	}
	return false
}

// Settle completes attempts with later information. Attempts from index known on that ended without a report get the
// step that the status had reached. The last attempt gets the number of steps that its successor, train, repeats.
func Settle(attempts []tuningv1alpha1.Attempt, known int, reached int64, train *message.Train) {
	for i := known; i < len(attempts); i++ {
		if attempts[i].ToStep == 0 {
			attempts[i].ToStep = reached
		}
	}
	if train == nil || len(attempts) == 0 {
		return
	}
	last := &attempts[len(attempts)-1]
	if last.LostSteps == 0 && last.ToStep > train.FromStep && last.FromStep <= train.FromStep {
		last.LostSteps = last.ToStep - train.FromStep
	}
}
