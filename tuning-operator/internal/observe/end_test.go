// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"kaito.sh/shared/api/embedded"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
)

func TestReasonsOfFailedAttempts(t *testing.T) {
	trained := encode(
		t,
		message.Result{
			Step:      message.StepTrain,
			Reason:    tuningv1alpha1.ReasonGPUOutOfMemory,
			Message:   "lower max_length",
			Permanent: true,
			Train:     &message.Train{FromStep: 100, Step: 250, CheckpointStep: 200},
		},
	)
	for name, c := range map[string]struct {
		pod          corev1.Pod
		reason, says string
		from, to     int64
		lost         int64
	}{
		"out of the container's memory":  {pod: pod("a", stops(job.Train, 137, "OOMKilled", "", 5)), reason: tuningv1alpha1.ReasonOutOfMemory, says: "container train"},
		"the trainer's message":          {pod: pod("a", stops(job.Train, 65, "Error", trained, 5)), reason: tuningv1alpha1.ReasonGPUOutOfMemory, says: "max_length", from: 100, to: 250, lost: 50},
		"the runner's message":           {pod: pod("a", stops(job.Fetch, 65, "Error", encode(t, message.Result{Reason: tuningv1alpha1.ReasonDatasetInvalid, Message: "row 7"}), 5)), reason: tuningv1alpha1.ReasonDatasetInvalid, says: "row 7"},
		"a stack trace as the message":   {pod: pod("a", stops(job.Train, 1, "Error", "Traceback\nKeyError: x", 5)), reason: tuningv1alpha1.ReasonTrainingFailed, says: "KeyError"},
		"no message":                     {pod: pod("a", stops(job.Push, 2, "Error", "", 5)), reason: tuningv1alpha1.ReasonPushFailed, says: "exit code 2"},
		"an unknown reason":              {pod: pod("a", stops(job.Train, 65, "Error", encode(t, message.Result{Reason: "Tenant7", Message: "seven"}), 5)), reason: tuningv1alpha1.ReasonTrainingFailed, says: `"Tenant7", which is not a known reason: seven`},
		"a reason that is not a failure": {pod: pod("a", stops(job.Fetch, 65, "Error", encode(t, message.Result{Reason: tuningv1alpha1.ReasonSucceeded}), 5)), reason: tuningv1alpha1.ReasonFetchFailed, says: "Succeeded"},
		"a failure without a reason":     {pod: pod("a", stops(job.Push, 1, "Error", encode(t, message.Result{Message: "boom"}), 5)), reason: tuningv1alpha1.ReasonPushFailed, says: "boom"},
		"an invalid reason":              {pod: pod("a", stops(job.Fetch, 1, "Error", encode(t, message.Result{Reason: "no such reason!"}), 5)), reason: tuningv1alpha1.ReasonFetchFailed},
		"preempted by another pod":       {pod: pod("a", disrupted("PreemptionByScheduler"), stops(job.Train, 75, "Error", "", 5)), reason: tuningv1alpha1.ReasonPreempted, says: "priority"},
		"drained":                        {pod: pod("a", disrupted("EvictionByEvictionAPI")), reason: tuningv1alpha1.ReasonEvicted, says: "drain"},
		"an unreachable node":            {pod: pod("a", disrupted("DeletionByTaintManager")), reason: tuningv1alpha1.ReasonNodeLost},
		"a node that was deleted":        {pod: pod("a", disrupted("DeletionByPodGC")), reason: tuningv1alpha1.ReasonNodeLost, says: "gone"},
		"a node short of disk":           {pod: pod("a", disrupted("TerminationByKubelet")), reason: tuningv1alpha1.ReasonEvicted},
		"an unknown disruption":          {pod: pod("a", disrupted("Anything")), reason: tuningv1alpha1.ReasonEvicted, says: "Anything"},
		"its own disk limit": {pod: pod("a", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "emptyDir usage exceeds"
		}), reason: tuningv1alpha1.ReasonEvicted, says: "emptyDir"},
		"refused by its node": {pod: pod("a", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "UnexpectedAdmissionError" }), reason: tuningv1alpha1.ReasonPodFailed, says: "UnexpectedAdmissionError"},
	} {
		t.Run(name, func(t *testing.T) {
			got := observe.Of(tuningJob(), jobWith(), []corev1.Pod{c.pod}, silent)
			require.Len(t, got.Attempts, 1)
			a := got.Attempts[0]
			assert.Equal(t, c.reason, a.Reason)
			assert.Contains(t, a.Message, c.says)
			assert.Equal(t, [3]int64{c.from, c.to, c.lost}, [3]int64{a.FromStep, a.ToStep, a.LostSteps})
			again := observe.Of(tuningJob(), jobWith(), []corev1.Pod{c.pod}, silent)
			assert.Len(t, observe.Merge(got.Attempts, again.Attempts), 1, "a repeated observation gives one attempt")
		})
	}
}

func TestStateOfAFinishedJob(t *testing.T) {
	pushed := encode(
		t,
		message.Result{
			Step: message.StepPush,
			Push: &message.Push{Image: "registry.example/adapter:1", Digest: "sha256:abc"},
		},
	)
	volume := tuningJob()
	volume.Spec.Output = tuningv1alpha1.Destination{VolumeSource: embedded.NewVolumeSource(corev1.VolumeSource{})}
	remembered := tuningJob()
	remembered.Status.Output = &tuningv1alpha1.Output{Digest: "sha256:abc"}
	oom := pod("a", stops(job.Train, 137, "OOMKilled", "", 5))
	for name, c := range map[string]struct {
		tj      *tuningv1alpha1.TuningJob
		job     *batchv1.Job
		pods    []corev1.Pod
		verdict observe.Verdict
		reason  string
		says    string
	}{
		"success":                                  {job: jobWith(ended(batchv1.JobComplete, "")), pods: []corev1.Pod{pod("a", stops(job.Push, 0, "Completed", pushed, 5), succeeded)}, verdict: observe.Succeeded, reason: tuningv1alpha1.ReasonSucceeded},
		"success after a failed attempt":           {job: jobWith(ended(batchv1.JobComplete, "")), pods: []corev1.Pod{oom, pod("b", stops(job.Push, 0, "Completed", pushed, 15), succeeded)}, verdict: observe.Succeeded, reason: tuningv1alpha1.ReasonSucceeded},
		"success with a volume, without a message": {tj: volume, job: jobWith(ended(batchv1.JobComplete, "")), verdict: observe.Succeeded, reason: tuningv1alpha1.ReasonSucceeded, says: "volume"},
		"success, and the pod is gone":             {tj: remembered, job: jobWith(ended(batchv1.JobComplete, "")), verdict: observe.Succeeded, reason: tuningv1alpha1.ReasonSucceeded},
		"without a digest":                         {job: jobWith(ended(batchv1.JobComplete, "")), pods: []corev1.Pod{pod("a", stops(job.Push, 0, "Completed", "", 5), succeeded)}, verdict: observe.Failed, reason: tuningv1alpha1.ReasonResultMissing},
		"without a pod":                            {job: jobWith(ended(batchv1.JobComplete, "")), verdict: observe.Failed, reason: tuningv1alpha1.ReasonResultMissing},
		"success, but the pod still runs":          {job: jobWith(ended(batchv1.JobComplete, "")), pods: []corev1.Pod{pod("a", runs(job.Push))}, verdict: observe.Running, reason: tuningv1alpha1.ReasonPushing},
		"failure, but the pod still runs":          {job: jobWith(ended(batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded)), pods: []corev1.Pod{oom, pod("b", runs(job.Train))}, verdict: observe.Running, reason: tuningv1alpha1.ReasonTraining},
		"out of memory in all attempts":            {job: jobWith(ended(batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded)), pods: []corev1.Pod{oom}, verdict: observe.Failed, reason: tuningv1alpha1.ReasonOutOfMemory, says: "spec.backoffLimit"},
		"invalid data":                             {job: jobWith(ended(batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy)), pods: []corev1.Pod{pod("a", stops(job.Fetch, 65, "Error", encode(t, message.Result{Reason: tuningv1alpha1.ReasonDatasetInvalid, Message: "row 7"}), 5))}, verdict: observe.Failed, reason: tuningv1alpha1.ReasonDatasetInvalid, says: "row 7"},
		"past its deadline":                        {job: jobWith(ended(batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded)), pods: []corev1.Pod{pod("a", stops(job.Train, 75, "Error", "", 5))}, verdict: observe.Failed, reason: tuningv1alpha1.ReasonDeadlineExceeded, says: "activeDeadlineSeconds"},
		"without a pod to explain it":              {job: jobWith(ended(batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded)), verdict: observe.Failed, reason: tuningv1alpha1.ReasonBackoffLimitExceeded, says: "Job controller's words"},
	} {
		t.Run(name, func(t *testing.T) {
			tj := c.tj
			if tj == nil {
				tj = tuningJob()
			}
			got := observe.Of(tj, c.job, c.pods, silent)
			assert.Equal(t, c.verdict, got.Verdict)
			assert.Equal(t, c.reason, got.Reason)
			assert.Contains(t, got.Message, c.says)
		})
	}
}

func TestFirstFailedRankIsTheCause(t *testing.T) {
	j := jobWith(ended(batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded))
	j.Spec.Completions = ptr.To[int32](2)
	got := observe.Of(tuningJob(), j, []corev1.Pod{
		pod("early", ranked("0"), stops(job.Train, 1, "Error", "an hour before", 2)),
		pod("zero", ranked("0"), stops(job.Train, 1, "Error", "NCCL: peer is gone", 52)),
		pod("one", ranked("1"), stops(job.Train, 137, "OOMKilled", "", 50)),
	}, silent)
	assert.Equal(t, tuningv1alpha1.ReasonOutOfMemory, got.Reason)
	assert.Contains(t, got.Message, "rank 1")
}
