// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// newJob creates a Job with the init containers fetch and train, and the main container push.
func newJob(t *testing.T, namespace string, outcome cluster.Outcome) {
	t.Helper()
	template := corev1.PodTemplateSpec{
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			InitContainers: []corev1.Container{
				{Name: "fetch", Image: "example.com/runner:1"},
				{Name: "train", Image: "example.com/trainer:1"},
			},
			Containers: []corev1.Container{{Name: "push", Image: "example.com/runner:1"}},
		},
	}
	if outcome != nil {
		template.Annotations = map[string]string{cluster.OutcomeAnnotation: outcome.Annotation()}
	}
	_, err := shared.client.BatchV1().Jobs(namespace).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "tuning"},
		Spec:       batchv1.JobSpec{BackoffLimit: ptr.To(int32(0)), Template: template},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func waitForJob(t *testing.T, namespace string, condition batchv1.JobConditionType) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		job, err := shared.client.BatchV1().Jobs(namespace).Get(t.Context(), "tuning", metav1.GetOptions{})
		require.NoError(c, err)
		var held []batchv1.JobConditionType
		for _, one := range job.Status.Conditions {
			if one.Status == corev1.ConditionTrue {
				held = append(held, one.Type)
			}
		}
		assert.Contains(c, held, condition)
	}, eventually.Long, eventually.Tick)
}

func TestJobRunsItsStepsInOrder(t *testing.T) {
	namespace := newNamespace(t)
	newJob(t, namespace, cluster.Outcome{"train": {After: time.Hour}})

	pod := eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
		assert.NotNil(c, statusOf(pod, "train").State.Running)
	})
	assert.Equal(t, corev1.PodPending, pod.Status.Phase, "a pod is Pending until its init containers are done")
	require.NotNil(t, statusOf(pod, "fetch").State.Terminated)
	assert.Zero(t, statusOf(pod, "fetch").State.Terminated.ExitCode)
	require.NotNil(t, statusOf(pod, "push").State.Waiting)

	setOutcome(t, pod, cluster.Outcome{
		"train": {After: time.Millisecond, Message: `{"loss":0.42}`},
		"push":  {After: time.Millisecond, Message: `{"digest":"sha256:abc"}`},
	})
	waitForJob(t, namespace, batchv1.JobComplete)
	pod = eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
		assert.Equal(c, corev1.PodSucceeded, pod.Status.Phase)
	})
	for container, message := range map[string]string{"fetch": "", "train": `{"loss":0.42}`, "push": `{"digest":"sha256:abc"}`} {
		ended := statusOf(pod, container).State.Terminated
		require.NotNil(t, ended, container)
		assert.Equal(t, message, ended.Message, container)
		assert.Equal(t, "Completed", ended.Reason, container)
		assert.False(t, ended.FinishedAt.IsZero(), container)
	}
}

func TestFailedStepFailsTheJob(t *testing.T) {
	for name, test := range map[string]struct {
		container string
		later     string
	}{
		"an init container":  {container: "train", later: "push"},
		"the main container": {container: "push"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := newNamespace(t)
			newJob(
				t, namespace, cluster.Outcome{test.container: {ExitCode: 137, Reason: "OOMKilled", Message: "CUDA out of memory"}},
			)
			waitForJob(t, namespace, batchv1.JobFailed)
			pod := eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
				assert.Equal(c, corev1.PodFailed, pod.Status.Phase)
			})
			ended := statusOf(pod, test.container).State.Terminated
			require.NotNil(t, ended)
			assert.EqualValues(t, 137, ended.ExitCode)
			assert.Equal(t, "OOMKilled", ended.Reason)
			assert.Equal(t, "CUDA out of memory", ended.Message)
			if test.later != "" {
				assert.NotNil(t, statusOf(pod, test.later).State.Waiting, "what comes after a failed step never starts")
			}
		})
	}
}

func TestImagePullFailureKeepsThePodWaiting(t *testing.T) {
	namespace := newNamespace(t)
	newEngine(t, namespace, 1, cluster.Outcome{"engine": {Waiting: "ImagePullBackOff", Message: "manifest unknown"}})
	pod := eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
		waiting := statusOf(pod, "engine").State.Waiting
		require.NotNil(c, waiting)
		assert.Equal(c, "ImagePullBackOff", waiting.Reason)
		assert.Equal(c, "manifest unknown", waiting.Message)
	})
	assert.Equal(t, corev1.PodPending, pod.Status.Phase)
	assert.False(t, podReady(pod))
	setOutcome(t, pod, cluster.Outcome{})
	waitForAvailable(t, namespace)
}

func TestContainerCrashLoopsUntilOutcomeIsRemoved(t *testing.T) {
	namespace := newNamespace(t)
	newEngine(t, namespace, 1, nil)
	waitForAvailable(t, namespace)
	pod := eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) { assert.True(c, podReady(pod)) })
	assert.Regexp(t, `^10\.244\.`, pod.Status.PodIP)
	assert.Equal(t, nodeIP, pod.Status.HostIP)

	setOutcome(t, pod, cluster.Outcome{"engine": {ExitCode: 137, Reason: "OOMKilled", Restarts: 4}})
	pod = eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
		status := statusOf(pod, "engine")
		require.NotNil(c, status.State.Waiting)
		assert.Equal(c, "CrashLoopBackOff", status.State.Waiting.Reason)
		require.NotNil(c, status.LastTerminationState.Terminated)
		assert.Equal(c, "OOMKilled", status.LastTerminationState.Terminated.Reason)
		assert.EqualValues(c, 137, status.LastTerminationState.Terminated.ExitCode)
		assert.EqualValues(c, 4, status.RestartCount)
	})
	assert.False(t, podReady(pod))
	assert.Equal(t, corev1.PodRunning, pod.Status.Phase)
	assert.NotNil(t, statusOf(pod, "gateway").State.Running, "the container beside it keeps running")

	setOutcome(t, pod, cluster.Outcome{})
	pod = eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) { assert.True(c, podReady(pod)) })
	assert.EqualValues(t, 4, statusOf(pod, "engine").RestartCount, "a restart is not forgotten")
}

func TestInitContainerCrashLoops(t *testing.T) {
	namespace := newNamespace(t)
	newEngine(t, namespace, 1, cluster.Outcome{"weights": {ExitCode: 1, Message: "no space left on device"}})
	pod := eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
		status := statusOf(pod, "weights")
		require.NotNil(c, status.State.Waiting)
		assert.Equal(c, "CrashLoopBackOff", status.State.Waiting.Reason)
		require.NotNil(c, status.LastTerminationState.Terminated)
		assert.Equal(c, "no space left on device", status.LastTerminationState.Terminated.Message)
	})
	assert.Equal(t, corev1.PodPending, pod.Status.Phase)
	setOutcome(t, pod, cluster.Outcome{})
	waitForAvailable(t, namespace)
}

func TestDeletedPodIsReplaced(t *testing.T) {
	namespace := newNamespace(t)
	newEngine(t, namespace, 1, nil)
	waitForAvailable(t, namespace)
	old := eventuallyPod(t, namespace, func(*assert.CollectT, corev1.Pod) {})
	require.NoError(t, shared.client.CoreV1().Pods(namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{}))
	eventuallyPod(t, namespace, func(c *assert.CollectT, pod corev1.Pod) {
		assert.NotEqual(c, old.Name, pod.Name)
		assert.True(c, podReady(pod))
	})
}

// Without the restart no pod would be scheduled, and each test would wait for its timeout.
func TestReviveRestartsTheScheduler(t *testing.T) {
	revived, err := shared.Revive()
	require.NoError(t, err)
	require.Empty(t, revived, "nothing has ended")
	for pid, line := range processesIn(t, shared.Dir()) {
		if strings.Contains(line, "/kube-scheduler ") {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		revived, err = shared.Revive()
		require.NoError(c, err)
		assert.Equal(c, []string{"kube-scheduler"}, revived)
	}, eventually.Short, eventually.Tick)
	namespace := newNamespace(t)
	newEngine(t, namespace, 1, nil)
	waitForAvailable(t, namespace)
}

func TestMalformedOutcomeIsReported(t *testing.T) {
	namespace := newNamespace(t)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "odd", Annotations: map[string]string{cluster.OutcomeAnnotation: "[1,"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/main:1"}}},
	}
	_, err := shared.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		events, err := shared.client.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
		var reasons []string
		for _, event := range events.Items {
			reasons = append(reasons, event.Reason)
		}
		assert.Contains(c, reasons, "MalformedOutcome")
	}, eventually.Long, eventually.Tick)
}
