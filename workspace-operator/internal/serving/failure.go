// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/excerpt"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/ranks"
)

// Failure is why a workload does not serve.
type Failure struct {
	// Reason is one of the Workspace's.
	Reason string
	// Message has the numbers and the remedy.
	Message string
}

// unschedulableGrace is how long a pod may fit no node before that is news: the scheduler hears of a new node a moment
// after its operator does, and says "unschedulable" until then.
const unschedulableGrace = 20 * time.Second

// trouble is one container's, or one pod's, state in the terms that the table asks for.
type trouble struct {
	pod       *corev1.Pod
	container string
	waiting   *corev1.ContainerStateWaiting
	ended     *corev1.ContainerStateTerminated
	restarts  int32
	// text is what the container or the kubelet wrote.
	text string
	// known is what the engine writes when it fails.
	known engine.LogTexts
}

// PodFailure finds the first row of the table that any pod fits. All pods are looked through for a row before the next
// row is tried. recheck is when there may be more to say though no event comes; 0: never.
func PodFailure(pods []corev1.Pod, known engine.LogTexts, now time.Time) (failure *Failure, recheck time.Duration) {
	var troubles []trouble
	ordered := slices.Clone(pods)
	slices.SortFunc(ordered, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for i := range ordered {
		if ordered[i].DeletionTimestamp == nil {
			troubles = append(troubles, of(&ordered[i], known)...)
		}
	}
	for _, row := range table {
		for _, t := range troubles {
			if !row.when(t) {
				continue
			}
			if left := row.after - now.Sub(t.since()); row.after > 0 && left > 0 {
				recheck = left
				continue
			}
			return &Failure{Reason: row.reason, Message: row.say(t)}, 0
		}
	}
	return nil, recheck
}

// since is when the pod was first found to fit no node.
func (t trouble) since() time.Time {
	if c := unschedulable(t.pod); c != nil {
		return c.LastTransitionTime.Time
	}
	return t.pod.CreationTimestamp.Time
}

func of(pod *corev1.Pod, known engine.LogTexts) []trouble {
	out := []trouble{{pod: pod, text: pod.Status.Message, known: known}}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		t := trouble{
			pod: pod, container: s.Name, waiting: s.State.Waiting, restarts: s.RestartCount, known: known,
		}
		switch {
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			t.ended = s.State.Terminated
		case s.State.Running == nil && s.LastTerminationState.Terminated != nil &&
			s.LastTerminationState.Terminated.ExitCode != 0:
			t.ended = s.LastTerminationState.Terminated
		case s.State.Running != nil && !s.Ready && s.RestartCount > 0 && s.LastTerminationState.Terminated != nil:
			// It runs again and has not come as far as before it ended: its end is still the news.
			t.ended = s.LastTerminationState.Terminated
		}
		if t.ended != nil && t.ended.ExitCode == ranks.ExitPeerEnded && s.Name == ContainerEngine {
			continue // the rank that ended first says why
		}
		if t.waiting != nil {
			t.text = t.waiting.Message
		}
		if t.ended != nil {
			t.text = t.ended.Message
		}
		if t.waiting != nil || t.ended != nil {
			out = append(out, t)
		}
	}
	return out
}

// DeploymentFailure returns why a Deployment makes no pods.
func DeploymentFailure(d *appsv1.Deployment) *Failure {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return Refused(c.Message)
		}
	}
	return nil
}

// Refused types what the API server answers to the creation of a pod or of a workload.
func Refused(message string) *Failure {
	if strings.Contains(message, "exceeded quota") {
		return &Failure{
			Reason:  kaitov1alpha1.ReasonQuotaDenied,
			Message: message + ". Raise the namespace's ResourceQuota, or put the Workspace into another namespace",
		}
	}
	return &Failure{
		Reason:  kaitov1alpha1.ReasonUnschedulable,
		Message: message + ". See which policy of the namespace refuses the pod (Pod Security, a LimitRange, an admission policy), and allow it",
	}
}

// tail returns the end of what a container wrote: the cause is last.
func tail(text string) string {
	const limit = 500
	return excerpt.Tail(strings.TrimSpace(text), limit)
}

func (t trouble) where() string {
	if t.container == "" {
		return "pod " + t.pod.Name
	}
	return fmt.Sprintf("container %s of pod %s", t.container, t.pod.Name)
}

func (t trouble) end() string {
	if t.ended == nil {
		return ""
	}
	s := fmt.Sprintf("exit code %d", t.ended.ExitCode)
	if t.restarts > 0 {
		s += fmt.Sprintf(", %d restarts", t.restarts)
	}
	return s
}
