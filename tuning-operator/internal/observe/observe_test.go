// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/observe"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(minutes int) metav1.Time {
	return metav1.Time{Time: start.Add(time.Duration(minutes) * time.Minute)}
}

func tuningJob() *tuningv1alpha1.TuningJob {
	return &tuningv1alpha1.TuningJob{
		ObjectMeta: metav1.ObjectMeta{Name: "tune", Namespace: "default"},
		Spec:       tuningv1alpha1.TuningJobSpec{Output: tuningv1alpha1.Destination{Image: "registry.example/adapter:1"}},
	}
}

func jobWith(conditions ...batchv1.JobCondition) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "tune"},
		Spec:       batchv1.JobSpec{Suspend: ptr.To(false), Completions: ptr.To[int32](1)},
		Status:     batchv1.JobStatus{Conditions: conditions},
	}
}

func ended(kind batchv1.JobConditionType, reason string) batchv1.JobCondition {
	return batchv1.JobCondition{
		Type:               kind,
		Status:             corev1.ConditionTrue,
		Reason:             reason,
		Message:            "the Job controller's words",
		LastTransitionTime: at(60),
	}
}

func encode(t *testing.T, m message.Result) string {
	t.Helper()
	raw, err := m.Encode()
	require.NoError(t, err)
	return string(raw)
}

type podOption func(*corev1.Pod)

func pod(name string, options ...podOption) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at(0)},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	waiting := func(n string) corev1.ContainerStatus {
		return corev1.ContainerStatus{
			Name:  n,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}},
		}
	}
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{waiting(job.Fetch), waiting(job.Train)}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting(job.Push)}
	for _, o := range options {
		o(&p)
	}
	return p
}

func state(p *corev1.Pod, container string) *corev1.ContainerState {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == container {
				list[i].State = corev1.ContainerState{}
				return &list[i].State
			}
		}
	}
	panic("no container " + container)
}

func runs(container string) podOption {
	return func(p *corev1.Pod) {
		state(p, container).Running = &corev1.ContainerStateRunning{StartedAt: at(1)}
	}
}

func stops(container string, code int32, reason, text string, minute int) podOption {
	return func(p *corev1.Pod) {
		state(p, container).Terminated = &corev1.ContainerStateTerminated{
			ExitCode:   code,
			Reason:     reason,
			Message:    text,
			StartedAt:  at(1),
			FinishedAt: at(minute),
		}
		if code != 0 {
			p.Status.Phase = corev1.PodFailed
		}
	}
}

func succeeded(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func waits(container, reason, text string) podOption {
	return func(p *corev1.Pod) {
		state(p, container).Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: text}
	}
}

func disrupted(reason string) podOption {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodFailed
		p.Status.Conditions = append(
			p.Status.Conditions,
			corev1.PodCondition{
				Type:               corev1.DisruptionTarget,
				Status:             corev1.ConditionTrue,
				Reason:             reason,
				Message:            "as the cluster says",
				LastTransitionTime: at(9),
			},
		)
	}
}

func ranked(n string) podOption {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: n}
	}
}

func silent(*corev1.Pod) *message.Line { return nil }

func TestStateOfARunningJob(t *testing.T) {
	suspendedJob := jobWith()
	suspendedJob.Spec.Suspend = ptr.To(true)
	twoRanks := jobWith()
	twoRanks.Spec.Completions = ptr.To[int32](2)
	queued := suspendedJob.DeepCopy()
	queued.Labels = map[string]string{job.LabelQueue: "gpus"}
	held := tuningJob()
	held.Spec.Suspend = ptr.To(true)
	for name, c := range map[string]struct {
		tj      *tuningv1alpha1.TuningJob
		job     *batchv1.Job
		pods    []corev1.Pod
		verdict observe.Verdict
		reason  string
		says    string
	}{
		"no pod yet":             {verdict: observe.Waiting, reason: tuningv1alpha1.ReasonPending, says: "waiting for the pod"},
		"suspended by its user":  {tj: held, job: suspendedJob, verdict: observe.Waiting, reason: tuningv1alpha1.ReasonSuspended, says: "spec.suspend"},
		"suspended by its queue": {job: queued, verdict: observe.Waiting, reason: tuningv1alpha1.ReasonPending, says: "queue gpus"},
		"no node fits": {pods: []corev1.Pod{pod("a", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
		})}, verdict: observe.Waiting, reason: tuningv1alpha1.ReasonPending, says: "0/3 nodes"},
		"fetching": {pods: []corev1.Pod{pod("a", runs(job.Fetch))}, verdict: observe.Running, reason: tuningv1alpha1.ReasonFetching},
		"training": {pods: []corev1.Pod{pod("a", stops(job.Fetch, 0, "Completed", "", 2), runs(job.Train))}, verdict: observe.Running, reason: tuningv1alpha1.ReasonTraining},
		"pushing":  {pods: []corev1.Pod{pod("a", stops(job.Fetch, 0, "Completed", "", 2), stops(job.Train, 0, "Completed", "", 3), runs(job.Push))}, verdict: observe.Running, reason: tuningv1alpha1.ReasonPushing},
		"fetched, pulling the trainer's image": {pods: []corev1.Pod{pod("a", stops(job.Fetch, 0, "Completed", "", 2), waits(job.Train, "PodInitializing", ""))},
			verdict: observe.Waiting, reason: tuningv1alpha1.ReasonFetching, says: "container train of pod a is starting"},
		"trained, starting the push": {pods: []corev1.Pod{pod("a", stops(job.Fetch, 0, "Completed", "", 2), stops(job.Train, 0, "Completed", "", 3), waits(job.Push, "PodInitializing", ""))},
			verdict: observe.Waiting, reason: tuningv1alpha1.ReasonTraining, says: "container push of pod a is starting"},
		"pushed, but the Job is not complete": {pods: []corev1.Pod{pod("a", stops(job.Push, 0, "Completed", "", 4), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
			verdict: observe.Waiting, reason: tuningv1alpha1.ReasonPushing, says: "all pods have succeeded"},
		"one rank succeeded, another is retried": {job: twoRanks, pods: []corev1.Pod{
			pod("a", ranked("0"), stops(job.Push, 0, "Completed", "", 4), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
			pod("b", ranked("1"), stops(job.Train, 1, "Error", "boom", 5))}, verdict: observe.Waiting, reason: tuningv1alpha1.ReasonRetrying, says: "boom"},
		"a secret is missing":       {pods: []corev1.Pod{pod("a", waits(job.Fetch, "CreateContainerConfigError", `secret "acr" not found`))}, verdict: observe.Stuck, reason: tuningv1alpha1.ReasonSecretNotFound, says: `"acr"`},
		"a secret lacks its key":    {pods: []corev1.Pod{pod("a", waits(job.Fetch, "CreateContainerConfigError", "couldn't find key .dockerconfigjson in Secret default/acr"))}, verdict: observe.Stuck, reason: tuningv1alpha1.ReasonSecretInvalid, says: ".dockerconfigjson"},
		"another config error":      {pods: []corev1.Pod{pod("a", waits(job.Fetch, "CreateContainerConfigError", "container has runAsNonRoot and image will run as root"))}, verdict: observe.Stuck, reason: tuningv1alpha1.ReasonContainerNotStarted, says: "runAsNonRoot"},
		"an image cannot be pulled": {pods: []corev1.Pod{pod("a", stops(job.Fetch, 0, "Completed", "", 2), waits(job.Train, "ImagePullBackOff", "manifest unknown"))}, verdict: observe.Stuck, reason: tuningv1alpha1.ReasonImagePullFailed, says: "manifest unknown"},
		"the second rank is stuck":  {pods: []corev1.Pod{pod("a", ranked("0"), runs(job.Train)), pod("b", ranked("1"), waits(job.Fetch, "ErrImagePull", "denied"))}, verdict: observe.Stuck, reason: tuningv1alpha1.ReasonImagePullFailed, says: "pod b"},
		"between two attempts":      {pods: []corev1.Pod{pod("a", stops(job.Train, 1, "Error", "boom", 5))}, verdict: observe.Waiting, reason: tuningv1alpha1.ReasonRetrying, says: "boom"},
		"a second attempt":          {pods: []corev1.Pod{pod("a", stops(job.Train, 1, "Error", "boom", 5)), pod("b", runs(job.Train))}, verdict: observe.Running, reason: tuningv1alpha1.ReasonTraining},
	} {
		t.Run(name, func(t *testing.T) {
			tj, j := c.tj, c.job
			if tj == nil {
				tj = tuningJob()
			}
			if j == nil {
				j = jobWith()
			}
			got := observe.Of(tj, j, c.pods, silent)
			assert.Equal(t, c.verdict, got.Verdict)
			assert.Equal(t, c.reason, got.Reason)
			assert.Contains(t, got.Message, c.says)
		})
	}
}

func TestResultsAreCollected(t *testing.T) {
	loss := 0.25
	got := observe.Of(tuningJob(), jobWith(), []corev1.Pod{
		pod(
			"a",
			stops(job.Fetch, 0, "Completed", encode(t, message.Result{Fetch: &message.Fetch{BaseRevision: "abc", Rows: 7}}), 2),
			stops(job.Train, 0, "Completed", encode(t, message.Result{Train: &message.Train{Step: 9, Loss: &loss}}), 3),
			runs(job.Push),
		),
	}, silent)
	assert.EqualValues(t, 7, got.Fetch.Rows)
	assert.InDelta(t, 0.25, *got.Train.Loss, 0)
	assert.Equal(t, at(1), got.Started)
	assert.Nil(t, got.Push)
}

func TestProgressIsThatOfTheLeader(t *testing.T) {
	line := &message.Line{
		Time:  at(4).Time,
		Train: &message.Train{Step: 45, TotalSteps: 100, FromStep: 5, ElapsedSeconds: 80},
	}
	asked := ""
	got := observe.Of(
		tuningJob(),
		jobWith(),
		[]corev1.Pod{pod("one", ranked("1"), runs(job.Train)), pod("zero", ranked("0"), runs(job.Train))},
		func(p *corev1.Pod) *message.Line {
			asked = p.Name
			return line
		},
	)
	assert.Equal(t, "zero", asked)
	require.NotNil(t, got.Leader)
	p := observe.Progress(got.Train, got.TrainTime)
	assert.Equal(t, "45%", p.Percent)
	assert.Equal(t, "110s", p.ETA, "40 steps took 80 seconds, 55 are left")
	assert.Equal(t, at(4).Unix(), p.Updated.Unix())
}

func TestTransfersAreReportedInTens(t *testing.T) {
	for done, says := range map[int64]string{0: ": 0% of 2.0 GiB", 1 << 29: ": 20% of 2.0 GiB", 2 << 30: ": 100% of 2.0 GiB"} {
		got := observe.Of(tuningJob(), jobWith(), []corev1.Pod{pod("a", runs(job.Fetch))}, func(*corev1.Pod) *message.Line {
			return &message.Line{Bytes: done, TotalBytes: 2 << 30}
		})
		assert.Contains(t, got.Message, says)
	}
}

func TestProgressWithoutNumbers(t *testing.T) {
	var train message.Train
	require.NoError(t, json.Unmarshal([]byte(`{"step":3}`), &train))
	p := observe.Progress(&train, metav1.Time{})
	assert.Equal(t, &tuningv1alpha1.Progress{Step: 3}, p)
}

func TestRepeatedStepsAreCounted(t *testing.T) {
	attempts := []tuningv1alpha1.Attempt{{Reason: tuningv1alpha1.ReasonNodeLost, Time: ptr.To(at(5))}}
	observe.Settle(attempts, 0, 150, nil)
	assert.EqualValues(t, 150, attempts[0].ToStep, "it died without a word: what was known of it counts")
	assert.Zero(t, attempts[0].LostSteps, "not known before the next one starts")
	observe.Settle(attempts, 1, 150, &message.Train{FromStep: 100, Step: 101})
	assert.EqualValues(t, 50, attempts[0].LostSteps)
	observe.Settle(attempts, 1, 150, &message.Train{FromStep: 100, Step: 140})
	assert.EqualValues(t, 50, attempts[0].LostSteps)
}

func TestTenAttemptsAreKept(t *testing.T) {
	var all []tuningv1alpha1.Attempt
	for i := range 25 {
		all = observe.Merge(all, []tuningv1alpha1.Attempt{{Reason: "R", Time: ptr.To(at(i))}})
	}
	require.Len(t, all, 10)
	assert.Equal(t, at(24), *all[9].Time)
}

func TestLongLogsAreShortened(t *testing.T) {
	got := observe.Of(
		tuningJob(), jobWith(),
		[]corev1.Pod{pod("a", stops(job.Train, 1, "Error", strings.Repeat("ø", 4000)+"the cause", 5))}, silent,
	)
	assert.Less(t, len(got.Attempts[0].Message), 1200)
	assert.True(t, strings.HasSuffix(got.Attempts[0].Message, "the cause"))
}

func TestAttemptsContainNoSignature(t *testing.T) {
	const leak = `fetching: Get "https://robot:s3cret@host.example/a?sig=s3cret": refused`
	for name, text := range map[string]string{"of a message": encode(t, message.Result{Reason: tuningv1alpha1.ReasonSourceUnavailable, Message: leak}), "of a log": leak} {
		t.Run(name, func(t *testing.T) {
			got := observe.Of(tuningJob(), jobWith(), []corev1.Pod{pod("a", stops(job.Fetch, 1, "Error", text, 5))}, silent)
			assert.Contains(t, got.Attempts[0].Message, `Get "https://host.example/a?…": refused`)
			assert.NotContains(t, got.Attempts[0].Message+got.Message, "s3cret")
		})
	}
}
