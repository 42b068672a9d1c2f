// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
)

// underWay sets the state of a Job that has not ended.
func (s *State) underWay(
	tj *tuningv1alpha1.TuningJob, j *batchv1.Job, pods []corev1.Pod, live func(*corev1.Pod) *message.Line,
) {
	if j.Spec.Suspend != nil && *j.Spec.Suspend {
		s.suspended(tj, j)
		return
	}
	var leader *corev1.Pod
	for i := range pods {
		pod := &pods[i]
		if ended(pod) {
			continue
		}
		if reason, text, stuck := obstacle(pod); stuck {
			s.Verdict, s.Reason, s.Message = Stuck, reason, text
			return
		}
		if leader == nil || rank(pod) <= rank(leader) {
			leader = pod
		}
	}
	if leader == nil {
		s.between(j, pods)
		return
	}
	s.step(leader, live)
}

func (s *State) suspended(tj *tuningv1alpha1.TuningJob, j *batchv1.Job) {
	s.Verdict = Waiting
	if tj.Spec.Suspend != nil && *tj.Spec.Suspend {
		s.Reason, s.Message = tuningv1alpha1.ReasonSuspended, "spec.suspend is true: no pod runs until it is false"
		return
	}
	s.Reason = tuningv1alpha1.ReasonPending
	s.Message = "the Job " + j.Name + " is suspended"
	if queue := j.Labels[job.LabelQueue]; queue != "" {
		s.Message = "waiting for the queue " + queue + " to admit the Job"
	}
}

// between sets the state while no pod runs: before the first one, before the next attempt, or after the last one.
func (s *State) between(j *batchv1.Job, pods []corev1.Pod) {
	s.Verdict = Waiting
	succeeded := map[int]bool{}
	for i := range pods {
		if pods[i].Status.Phase == corev1.PodSucceeded {
			succeeded[rank(&pods[i])] = true
		}
	}
	if len(succeeded) >= int(deref(j.Spec.Completions)) { // a rank may be retried after another one has succeeded
		s.Reason, s.Message = tuningv1alpha1.ReasonPushing, "all pods have succeeded; waiting for Job "+j.Name+" to complete"
		return
	}
	if n := len(s.Attempts); n > 0 {
		last := s.Attempts[n-1]
		s.Reason = tuningv1alpha1.ReasonRetrying
		s.Message = fmt.Sprintf("the last attempt ended with %s: %s; another one follows", last.Reason, last.Message)
		return
	}
	s.Reason, s.Message = tuningv1alpha1.ReasonPending, "waiting for the pod of Job "+j.Name
}

// Ended returns whether all pods have ended or are being deleted. A pod on a lost node never reports its end.
func Ended(pods []corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return !ended(&pod) && pod.DeletionTimestamp == nil })
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// obstacles are the kubelet's reasons for a container that does not start, and their remedies. The kubelet's messages
// for a missing Secret are matched only here. Source: the kubelet's kuberuntime and its configuration of environment
// variables, stable since Kubernetes 1.2.
var obstacles = []struct {
	waiting, text string
	reason        string
	remedy        string
}{
	{
		"CreateContainerConfigError",
		"secret \"",
		tuningv1alpha1.ReasonSecretNotFound,
		"create the Secret in this namespace; the pod then starts automatically",
	},
	{
		"CreateContainerConfigError",
		"couldn't find key",
		tuningv1alpha1.ReasonSecretInvalid,
		"add the key to the Secret (a registry secret is of type kubernetes.io/dockerconfigjson, a model secret has HF_TOKEN); the pod then starts automatically",
	},
	{"CreateContainerConfigError", "", tuningv1alpha1.ReasonContainerNotStarted, "the node cannot configure the container"},
	{
		"ErrImagePull",
		"",
		tuningv1alpha1.ReasonImagePullFailed,
		"check that the node can reach the registry and that the image exists; the pull is retried",
	},
	{
		"ImagePullBackOff",
		"",
		tuningv1alpha1.ReasonImagePullFailed,
		"check that the node can reach the registry and that the image exists; the pull is retried",
	},
	{
		"InvalidImageName",
		"",
		tuningv1alpha1.ReasonImagePullFailed,
		"the operator's --runner-image or --trainer-image is not a valid image name",
	},
	{"ErrImageNeverPull", "", tuningv1alpha1.ReasonImagePullFailed, "the image is not on the node and may not be pulled"},
	{"CreateContainerError", "", tuningv1alpha1.ReasonContainerNotStarted, "the node cannot create the container"},
	{"RunContainerError", "", tuningv1alpha1.ReasonContainerNotStarted, "the node cannot start the container"},
}

// obstacle returns the reason and the message of a container that cannot start until a person acts.
func obstacle(pod *corev1.Pod) (reason, text string, stuck bool) {
	for _, c := range statuses(pod) {
		w := c.State.Waiting
		if w == nil {
			continue
		}
		for _, o := range obstacles {
			if w.Reason == o.waiting && strings.Contains(w.Message, o.text) {
				return o.reason, fmt.Sprintf(
					"container %s of pod %s cannot start: %s: %s; %s", c.Name, pod.Name, w.Reason, w.Message, o.remedy,
				), true
			}
		}
	}
	return "", "", false
}

// step sets the state from the running container of the leader.
func (s *State) step(pod *corev1.Pod, live func(*corev1.Pod) *message.Line) {
	for _, c := range statuses(pod) {
		if c.State.Running == nil {
			continue
		}
		s.Verdict, s.Leader = Running, pod
		line := live(pod)
		switch c.Name {
		case job.Fetch:
			s.Reason, s.Message = tuningv1alpha1.ReasonFetching, "fetching the data and the model"+share(line)
		case job.Train:
			s.Reason, s.Message = tuningv1alpha1.ReasonTraining, "training in pod "+pod.Name
			// Before its first line the step is that of the last checkpoint, which only the trainer knows.
			if line != nil && line.Train != nil {
				s.Train, s.TrainTime = line.Train, metaTime(line.Time)
			}
		default:
			s.Reason, s.Message = tuningv1alpha1.ReasonPushing, "pushing the adapter"+share(line)
		}
		return
	}
	s.Verdict = Waiting
	if s.afterStep(pod) {
		return
	}
	s.Reason, s.Message = tuningv1alpha1.ReasonPending, "pod "+pod.Name+" is starting"
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			s.Message = "pod " + pod.Name + " is waiting for a node: " + c.Message
		}
	}
}

// afterStep sets the state between two steps, while the image of the next one is pulled. It returns false if no step
// has succeeded. The reason stays that of the last step, so that users never see it move backwards.
func (s *State) afterStep(pod *corev1.Pod) bool {
	ended := ""
	for _, c := range statuses(pod) {
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			ended = c.Name
		}
	}
	switch ended {
	case job.Fetch:
		s.Reason, s.Message = tuningv1alpha1.ReasonFetching, "the data and the model are fetched; container "+job.Train+" of pod "+pod.Name+" is starting"
	case job.Train:
		s.Reason = tuningv1alpha1.ReasonTraining
		s.Message = "the training has ended; container " + job.Push + " of pod " + pod.Name + " is starting"
	case job.Push:
		s.Reason, s.Message = tuningv1alpha1.ReasonPushing, "the adapter is pushed; pod "+pod.Name+" is ending"
	}
	return ended != ""
}

// share describes how much of a transfer is done. It has steps of ten percent, because each change is a write.
func share(line *message.Line) string {
	if line == nil || line.TotalBytes <= 0 {
		return ""
	}
	tenth := min(line.Bytes*10/line.TotalBytes, 10) * 10
	return fmt.Sprintf(": %d%% of %.1f GiB", tenth, float64(line.TotalBytes)/(1<<30))
}
