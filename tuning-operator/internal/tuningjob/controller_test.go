// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
)

func TestSuccessfulTuningJob(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	waiting := s.reaches(tuningv1alpha1.ReasonPending)
	assert.Contains(t, ready(waiting).Message, "queue gpus")
	assert.True(t, conditions.IsTrue(waiting, conditions.Reconciling))
	assert.Equal(
		t, "microsoft/Phi-3-mini-128k-instruct", waiting.Status.Output.BaseModel, "the column MODEL is set from the start",
	)

	o := s.well()
	o[job.Train] = cluster.ContainerOutcome{After: time.Hour}
	s.admit(o)
	training := s.reaches(tuningv1alpha1.ReasonTraining)
	assert.True(t, conditions.IsTrue(training, tuningv1alpha1.ConditionRunning))
	assert.Equal(t, "0123", training.Status.Output.BaseRevision, "the result of fetch is reported during the training")

	pod := s.pod()
	s.annotate(
		pod,
		job.AnnotationProgress,
		`{"time":"2026-01-01T12:00:00Z","step":"train","train":{"step":45,"totalSteps":300,"loss":1.25,"elapsedSeconds":90}}`,
	)
	s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		require.NotNil(c, tj.Status.Progress)
		assert.Equal(c, "15%", tj.Status.Progress.Percent)
		assert.Equal(c, "1.2500", tj.Status.Progress.Loss)
		assert.Equal(c, "8m30s", tj.Status.Progress.ETA)
	})

	s.outcome(pod, s.well())
	done := s.reaches(tuningv1alpha1.ReasonSucceeded)
	assert.True(t, conditions.IsTrue(done, conditions.Ready))
	assert.True(t, conditions.IsTrue(done, tuningv1alpha1.ConditionSucceeded))
	assert.False(t, conditions.IsTrue(done, tuningv1alpha1.ConditionRunning))
	assert.Equal(t, &tuningv1alpha1.Output{
		Image: "registry.example/team/adapter@" + digest, Digest: digest, Size: 1234,
		BaseModel: "microsoft/Phi-3-mini-128k-instruct", BaseRevision: "0123", DatasetDigest: "sha256:data", ChatTemplate: true,
	}, done.Status.Output)
	assert.Equal(t, "100%", done.Status.Progress.Percent)
	assert.NotNil(t, done.Status.StartTime)
	assert.NotNil(t, done.Status.CompletionTime)
	assert.Empty(t, done.Status.Attempts)
	assert.Equal(t, done.Generation, done.Status.ObservedGeneration)
	assert.Equal(t, s.name, metav1.GetControllerOf(s.job()).Name)
}

func TestFirstPassSetsAllConditions(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	tj := s.reaches(tuningv1alpha1.ReasonPending)
	for _, c := range []string{
		conditions.Ready, conditions.Reconciling, conditions.Stalled,
		tuningv1alpha1.ConditionRunning, tuningv1alpha1.ConditionSucceeded, tuningv1alpha1.ConditionFailed,
	} {
		require.NotNil(t, conditions.Get(tj, c), c)
		assert.Equal(t, tj.Generation, conditions.Get(tj, c).ObservedGeneration, c)
	}
}

func TestJobWithoutAQueueWaitsForItsNode(t *testing.T) {
	s := tell(t)
	s.submit(func(tj *tuningv1alpha1.TuningJob) {
		tj.Spec.Resources.NodeSelector = map[string]string{"nowhere": "yes"}
	})
	tj := s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		require.NotNil(c, ready(tj))
		assert.Contains(c, ready(tj).Message, "is waiting for a node")
	})
	assert.Equal(t, tuningv1alpha1.ReasonPending, ready(tj).Reason)
	assert.False(t, *s.job().Spec.Suspend)
	assert.False(t, conditions.IsTrue(tj, conditions.Stalled), "an autoscaler may bring one")
}

func TestMissingSecret(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	o := s.well()
	// The kubelet reports the missing Secret of the fetch container.
	o[job.Fetch] = cluster.ContainerOutcome{Waiting: "CreateContainerConfigError", Message: `secret "acr" not found`}
	s.admit(o)
	tj := s.reaches(tuningv1alpha1.ReasonSecretNotFound)
	assert.True(t, conditions.IsTrue(tj, conditions.Stalled))
	assert.Contains(t, ready(tj).Message, `"acr"`)
	s.outcome(s.pod(), s.well())
	tj = s.reaches(tuningv1alpha1.ReasonSucceeded)
	assert.Empty(t, tj.Status.Attempts, "it is not a failed attempt")
}

func TestSuspend(t *testing.T) {
	t.Run("before the start no Job is created", func(t *testing.T) {
		t.Parallel()
		s := tell(t)
		s.submit(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Suspend = ptr.To(true) })
		s.reaches(tuningv1alpha1.ReasonSuspended)
		assert.Nil(t, s.job())
		s.change(func(tj *tuningv1alpha1.TuningJob) {
			tj.Spec.Suspend = ptr.To(false)
		})
		require.Eventually(t, func() bool { return s.job() != nil }, eventually.Long, eventually.Tick)
	})
	t.Run("while it runs the pods are deleted and recreated", func(t *testing.T) {
		t.Parallel()
		s := tell(t)
		s.submit(func(tj *tuningv1alpha1.TuningJob) {
			tj.Spec.Resources.NodeSelector = map[string]string{"nowhere": "yes"}
		})
		first := s.pod()
		s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Suspend = ptr.To(true) })
		s.reaches(tuningv1alpha1.ReasonSuspended)
		require.Eventually(t, func() bool { return len(s.pods()) == 0 }, eventually.Long, eventually.Tick)
		s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Suspend = nil })
		assert.NotEqual(t, first.UID, s.pod().UID)
		tj := s.reaches(tuningv1alpha1.ReasonPending)
		assert.Empty(t, tj.Status.Attempts, "a pause is not a failure")
	})
	t.Run("in a queue the Job is deleted", func(t *testing.T) {
		t.Parallel()
		s := tell(t)
		s.submit(queued)
		s.reaches(tuningv1alpha1.ReasonPending)
		first := s.job()
		require.NotNil(t, first)
		s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Suspend = ptr.To(true) })
		require.Eventually(t, func() bool { return s.job() == nil }, eventually.Long, eventually.Tick)
		s.reaches(tuningv1alpha1.ReasonSuspended)
		s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Suspend = ptr.To(false) })
		require.Eventually(t, func() bool { return s.job() != nil }, eventually.Long, eventually.Tick)
		assert.NotEqual(t, first.UID, s.job().UID)
		assert.True(t, *s.job().Spec.Suspend, "the queue starts it")
	})
}

func TestTTLDeletesTheJobAndKeepsTheStatus(t *testing.T) {
	s := tell(t)
	s.submit(queued, func(tj *tuningv1alpha1.TuningJob) { tj.Spec.TTLSecondsAfterFinished = ptr.To[int32](1) })
	s.admit(s.well())
	s.reaches(tuningv1alpha1.ReasonSucceeded)
	require.Eventually(t, func() bool { return s.job() == nil && len(s.pods()) == 0 }, eventually.Long, eventually.Tick)
	tj := s.get()
	assert.Equal(t, digest, tj.Status.Output.Digest)
	assert.True(t, conditions.IsTrue(tj, tuningv1alpha1.ConditionSucceeded), "and no second Job runs")
}

func TestUnrelatedChangeWritesNothing(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	o := s.well()
	o[job.Train] = cluster.ContainerOutcome{After: time.Hour}
	s.admit(o)
	s.reaches(tuningv1alpha1.ReasonTraining)
	running := s.get()
	mark, err := shared.audit.Mark()
	require.NoError(t, err)
	s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Annotations = map[string]string{"touched": "once"} })
	touched := s.get()

	// When a second TuningJob was reconciled through the same work queue, the change was reconciled too.
	other := &story{T: t, namespace: s.namespace, name: "other"}
	other.submit(queued)
	other.reaches(tuningv1alpha1.ReasonPending)
	writes, err := shared.audit.Writes(
		mark, audit.ServiceAccount(operatorNamespace, operatorAccount), audit.Namespace(s.namespace),
	)
	require.NoError(t, err)
	for _, w := range writes {
		assert.NotEqual(t, s.name, w.Name, "%s %s/%s", w.Verb, w.Resource, w.Subresource)
	}
	assert.Equal(t, running.Status, touched.Status)
	assert.Equal(t, touched.ResourceVersion, s.get().ResourceVersion)
}

func TestOperatorReadsNoSecrets(t *testing.T) {
	requests, err := shared.audit.Requests(audit.Mark{}, audit.ServiceAccount(operatorNamespace, operatorAccount))
	require.NoError(t, err)
	require.NotEmpty(t, requests)
	for _, r := range requests {
		assert.NotEqual(t, "secrets", r.Resource)
		// Quotas and terminating namespaces refuse writes too. The tests above prove that the role allows them.
		if r.Verb == "get" || r.Verb == "list" || r.Verb == "watch" {
			assert.NotEqual(t, 403, r.Code, "the role lacks %s of %s/%s", r.Verb, r.Resource, r.Subresource)
		}
	}
}

func TestEventsAndMetricsOfAFailure(t *testing.T) {
	s := tell(t)
	s.submit(queued, func(tj *tuningv1alpha1.TuningJob) { tj.Spec.BackoffLimit = ptr.To[int32](0) })
	o := s.well()
	o[job.Fetch] = cluster.ContainerOutcome{
		ExitCode: 1,
		Message: s.encode(
			message.Result{Step: message.StepFetch, Reason: tuningv1alpha1.ReasonSourceUnavailable, Message: "503"},
		),
	}
	s.admit(o)
	s.reaches(tuningv1alpha1.ReasonSourceUnavailable)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var list eventsv1.EventList
		require.NoError(c, shared.client.List(t.Context(), &list, client.InNamespace(s.namespace)))
		var said []string
		for _, e := range list.Items {
			if e.Regarding.Kind == "TuningJob" {
				said = append(said, e.Type+" "+e.Reason)
			}
		}
		assert.Contains(c, said, "Warning "+tuningv1alpha1.ReasonSourceUnavailable)
	}, eventually.Long, eventually.Tick)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		families, err := shared.metrics.Gather()
		require.NoError(c, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if f.GetName() == "kaito_tuningjob_attempts_total" && l.GetValue() == tuningv1alpha1.ReasonSourceUnavailable {
						assert.InDelta(c, 1, m.GetCounter().GetValue(), 0)
						return
					}
				}
			}
		}
		assert.Fail(c, "not counted")
	}, eventually.Short, eventually.Tick)
}
