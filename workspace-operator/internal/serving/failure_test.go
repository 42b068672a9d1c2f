// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/serving"
)

var now = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

func unschedulable(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{
			{
				Type:               corev1.PodScheduled,
				Status:             corev1.ConditionFalse,
				Reason:             corev1.PodReasonUnschedulable,
				LastTransitionTime: metav1.NewTime(now.Add(-ago)),
				Message:            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
			},
		}
	}
}

func TestAPodThatFitsNoNodeIsNewsOnlyAfterAWhile(t *testing.T) {
	t.Parallel()
	got, recheck := serving.PodFailure([]corev1.Pod{pod(unschedulable(5 * time.Second))}, vllm.Engine{}.LogTexts(), now)
	assert.Nil(t, got, "the scheduler may not have heard of the node yet")
	assert.Equal(t, 15*time.Second, recheck, "no event will come")
	got, recheck = serving.PodFailure([]corev1.Pod{pod(unschedulable(20 * time.Second))}, vllm.Engine{}.LogTexts(), now)
	assert.NotNil(t, got)
	assert.Zero(t, recheck)
}

func pod(edit func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "phi-0", Namespace: "ns"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	edit(&p)
	return p
}

func engine(s corev1.ContainerStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		s.Name = "engine"
		p.Status.ContainerStatuses = []corev1.ContainerStatus{
			s,
			{Name: "gateway", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func ended(code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message},
	}
}

func crashed(code int32, reason, message string) func(*corev1.Pod) {
	return engine(
		corev1.ContainerStatus{
			RestartCount:         4,
			State:                waiting("CrashLoopBackOff", "back-off 40s"),
			LastTerminationState: ended(code, reason, message),
		},
	)
}

func TestPods(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		pod    func(*corev1.Pod)
		reason string // empty: nothing ails it
		says   []string
	}{
		{"a pod that starts", engine(corev1.ContainerStatus{State: waiting("ContainerCreating", "")}), "", nil},
		{"a pod that runs", engine(corev1.ContainerStatus{Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}), "", nil},
		{"a container that recovered is not a failure", engine(corev1.ContainerStatus{Ready: true, RestartCount: 3, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, LastTerminationState: ended(1, "Error", "x")}), "", nil},
		{"a gated model", crashed(1, "Error", "OSError: Cannot access gated repo for url"), kaitov1alpha1.ReasonModelAccessDenied, []string{"HF_TOKEN", "exit code 1, 4 restarts"}},
		{"a full disk", crashed(1, "Error", "OSError: [Errno 28] No space left on device"), kaitov1alpha1.ReasonDiskFull, []string{"osDiskSizeGiB"}},
		{"an eviction for the disk", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "The node was low on resource: ephemeral-storage."
		}, kaitov1alpha1.ReasonDiskFull, []string{"low on resource"}},
		{"too little GPU memory", crashed(1, "Error", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"), kaitov1alpha1.ReasonOutOfMemory, []string{"max-model-len", "Tried to allocate 2.00 GiB"}},
		{"too little memory of the node, which also crash-loops", crashed(137, "OOMKilled", ""), kaitov1alpha1.ReasonOutOfMemory, []string{"killed for its memory", "exit code 137"}},
		{"a secret that is missing", engine(corev1.ContainerStatus{State: waiting("CreateContainerConfigError", `secret "token" not found`)}), kaitov1alpha1.ReasonSecretNotFound, []string{`secret "token" not found`, "then starts"}},
		{"a ConfigMap that is missing", engine(corev1.ContainerStatus{State: waiting("CreateContainerConfigError", `configmap "c" not found`)}), kaitov1alpha1.ReasonConfigMapNotFound, []string{`configmap "c"`}},
		{"an image that cannot be pulled", engine(corev1.ContainerStatus{State: waiting("ImagePullBackOff", "manifest unknown")}), kaitov1alpha1.ReasonImagePullFailed, []string{"manifest unknown", "pull secret"}},
		{"an engine that ends", crashed(2, "Error", "ValueError: bad flag"), kaitov1alpha1.ReasonEngineCrashing, []string{"ValueError: bad flag", "kubectl logs -n ns phi-0 -c engine --previous"}},
		{"an engine that was ended for another rank", engine(corev1.ContainerStatus{RestartCount: 2, State: waiting("CrashLoopBackOff", ""), LastTerminationState: ended(75, "Error", "rank 1: the connection was closed. All ranks of a server start again together")}), "", nil},
		{"an engine that runs again after it ended", engine(corev1.ContainerStatus{RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, LastTerminationState: ended(1, "Error", "GatedRepoError")}), kaitov1alpha1.ReasonModelAccessDenied, nil},
		{"a fetch that was denied", func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "fetch-adapter-0", RestartCount: 2, State: waiting("CrashLoopBackOff", ""), LastTerminationState: ended(42, "Error", `{"step":"fetch","reason":"SourceDenied"}`)}}
		}, kaitov1alpha1.ReasonModelAccessDenied, []string{"fetch-adapter-0"}},
		{"an authority that is not a certificate", func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "trust", RestartCount: 2, State: waiting("CrashLoopBackOff", ""), LastTerminationState: ended(65, "Error", `{"step":"trust","reason":"ConfigInvalid","message":"/etc/kaito/authorities/ours.crt: no certificate in it"}`)}}
		}, kaitov1alpha1.ReasonEngineCrashing, []string{"container trust", "ours.crt: no certificate"}},
		{"a pod that fits no node", unschedulable(time.Minute), kaitov1alpha1.ReasonUnschedulable, []string{"3 Insufficient nvidia.com/gpu"}},
		{"a container that its node cannot start", engine(corev1.ContainerStatus{State: waiting("CreateContainerError", "nvidia-container-cli: driver error")}), kaitov1alpha1.ReasonEngineCrashing, []string{"driver error"}},
		{"a pod that failed", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "NodeShutdown" }, kaitov1alpha1.ReasonEngineCrashing, []string{"NodeShutdown"}},
		{"a pod on its way out", func(p *corev1.Pod) {
			crashed(1, "Error", "x")(p)
			now := metav1.Now()
			p.DeletionTimestamp = &now
		}, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, _ := serving.PodFailure([]corev1.Pod{pod(test.pod)}, vllm.Engine{}.LogTexts(), now)
			if test.reason == "" {
				assert.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.Equal(t, test.reason, got.Reason, got.Message)
			for _, text := range test.says {
				assert.Contains(t, got.Message, text)
			}
		})
	}
}

func TestMostSpecificCauseOfAllPodsIsReported(t *testing.T) {
	t.Parallel()
	unspecific := pod(crashed(1, "Error", "x"))
	specific := pod(crashed(137, "OOMKilled", ""))
	specific.Name = "phi-1"
	for _, pods := range [][]corev1.Pod{{unspecific, specific}, {specific, unspecific}} {
		got, _ := serving.PodFailure(pods, vllm.Engine{}.LogTexts(), now)
		require.NotNil(t, got)
		assert.Equal(t, kaitov1alpha1.ReasonOutOfMemory, got.Reason)
		assert.Contains(t, got.Message, "phi-1")
	}
}

func TestALongLogIsCutToItsEnd(t *testing.T) {
	t.Parallel()
	text := ""
	for len(text) < 4000 {
		text += "línea "
	}
	got, _ := serving.PodFailure([]corev1.Pod{pod(crashed(1, "Error", text+"ValueError: the cause"))}, vllm.Engine{}.LogTexts(), now)
	require.NotNil(t, got)
	assert.Contains(t, got.Message, "the cause")
	assert.Less(t, len(got.Message), 900)
}

func TestRefusedPodsAreTyped(t *testing.T) {
	t.Parallel()
	for message, reason := range map[string]string{
		`pods "x" is forbidden: exceeded quota: compute, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4`: kaitov1alpha1.ReasonQuotaDenied,
		`pods "x" is forbidden: violates PodSecurity "restricted:latest"`:                                           kaitov1alpha1.ReasonUnschedulable,
	} {
		got := serving.DeploymentFailure(&appsv1.Deployment{Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: message},
		}}})
		require.NotNil(t, got)
		assert.Equal(t, reason, got.Reason)
		assert.Contains(t, got.Message, message)
	}
	assert.Nil(t, serving.DeploymentFailure(&appsv1.Deployment{}))
}
