// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
)

func TestFailedAttempts(t *testing.T) {
	said := func(reason, text string, permanent bool) string {
		raw, err := message.Result{Step: message.StepFetch, Reason: reason, Message: text, Permanent: permanent}.Encode()
		require.NoError(t, err)
		return string(raw)
	}
	for name, c := range map[string]struct {
		step     string
		outcome  cluster.ContainerOutcome
		backoff  int32
		reason   string
		says     string
		attempts int
	}{
		"an invalid row ends the job at once":          {job.Fetch, cluster.ContainerOutcome{ExitCode: message.ExitPermanent, Message: said(tuningv1alpha1.ReasonDatasetInvalid, "row 7 of train.parquet", true)}, 5, tuningv1alpha1.ReasonDatasetInvalid, "row 7", 1},
		"a registry that refuses ends the job at once": {job.Push, cluster.ContainerOutcome{ExitCode: message.ExitPermanent, Message: said(tuningv1alpha1.ReasonOutputDenied, "401", true)}, 5, tuningv1alpha1.ReasonOutputDenied, "401", 1},
		"GPU out of memory ends the job at once":       {job.Train, cluster.ContainerOutcome{ExitCode: message.ExitPermanent, Message: said(tuningv1alpha1.ReasonGPUOutOfMemory, "lower max_length", true)}, 5, tuningv1alpha1.ReasonGPUOutOfMemory, "max_length", 1},
		"out of memory is retried":                     {job.Train, cluster.ContainerOutcome{ExitCode: 137, Reason: "OOMKilled"}, 1, tuningv1alpha1.ReasonOutOfMemory, "backoffLimit", 2},
		"a crash without a message":                    {job.Train, cluster.ContainerOutcome{ExitCode: 1, Message: "Traceback: KeyError"}, 0, tuningv1alpha1.ReasonTrainingFailed, "KeyError", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tell(t)
			s.submit(queued, func(tj *tuningv1alpha1.TuningJob) { tj.Spec.BackoffLimit = ptr.To(c.backoff) })
			o := s.well()
			o[c.step] = c.outcome
			s.admit(o)
			tj := s.until(func(ct *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
				assert.True(ct, conditions.IsTrue(tj, tuningv1alpha1.ConditionFailed))
			})
			assert.Equal(t, c.reason, ready(tj).Reason)
			assert.Contains(t, ready(tj).Message, c.says)
			assert.True(t, conditions.IsTrue(tj, conditions.Stalled))
			assert.False(t, conditions.IsTrue(tj, conditions.Reconciling))
			assert.NotNil(t, tj.Status.CompletionTime)
			require.Len(t, tj.Status.Attempts, c.attempts)
			for _, a := range tj.Status.Attempts {
				assert.Equal(t, c.reason, a.Reason)
			}
		})
	}
}

func TestSuccessfulRetry(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	failing := s.well()
	failing[job.Train] = cluster.ContainerOutcome{After: time.Millisecond, ExitCode: 1, Message: "boom"}
	failing[job.Fetch] = cluster.ContainerOutcome{After: time.Hour}
	s.admit(failing)
	s.reaches(tuningv1alpha1.ReasonFetching)
	first := s.pod()
	goes := s.well()
	goes[job.Train] = failing[job.Train]
	s.outcome(first, goes)

	s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		require.Len(c, tj.Status.Attempts, 1)
		assert.Equal(c, tuningv1alpha1.ReasonTrainingFailed, tj.Status.Attempts[0].Reason)
	})
	require.Eventually(t, func() bool { return s.pod().UID != first.UID }, eventually.Long, eventually.Tick)
	s.outcome(s.pod(), s.well())
	tj := s.reaches(tuningv1alpha1.ReasonSucceeded)
	assert.Len(t, tj.Status.Attempts, 1)
	assert.False(t, conditions.IsTrue(tj, conditions.Stalled))
}

func TestDisruptionCountsOnlyLostSteps(t *testing.T) {
	s := tell(t)
	s.submit(queued, func(tj *tuningv1alpha1.TuningJob) { tj.Spec.BackoffLimit = ptr.To[int32](0) })
	o := s.well()
	o[job.Train] = cluster.ContainerOutcome{After: time.Hour}
	s.admit(o)
	s.reaches(tuningv1alpha1.ReasonTraining)
	first := s.pod()
	s.annotate(first, job.AnnotationProgress, `{"step":"train","train":{"step":150,"totalSteps":300}}`)
	s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		require.NotNil(c, tj.Status.Progress)
		assert.EqualValues(c, 150, tj.Status.Progress.Step)
	})

	// A drain sets the condition and then deletes the pod.
	before := first.DeepCopy()
	first.Status.Conditions = append(first.Status.Conditions, corev1.PodCondition{
		Type:               corev1.DisruptionTarget,
		Status:             corev1.ConditionTrue,
		Reason:             "EvictionByEvictionAPI",
		Message:            "Eviction API: evicting",
		LastTransitionTime: metav1.Now(),
	})
	require.NoError(t, shared.client.Status().Patch(t.Context(), first, client.StrategicMergeFrom(before)))
	require.NoError(t, shared.client.Delete(t.Context(), first))
	s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		require.Len(c, tj.Status.Attempts, 1)
		assert.Equal(c, tuningv1alpha1.ReasonEvicted, tj.Status.Attempts[0].Reason)
		assert.EqualValues(c, 150, tj.Status.Attempts[0].ToStep)
	})

	require.Eventually(t, func() bool { return s.pod().UID != first.UID }, eventually.Long, eventually.Tick)
	second := s.pod()
	s.annotate(second, job.AnnotationProgress, `{"step":"train","train":{"fromStep":100,"step":101,"totalSteps":300}}`)
	tj := s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		require.Len(c, tj.Status.Attempts, 1)
		assert.EqualValues(c, 50, tj.Status.Attempts[0].LostSteps)
	})
	assert.Equal(t, tuningv1alpha1.ReasonTraining, ready(tj).Reason, "backoffLimit is 0 and the training continues")
	assert.Zero(t, s.job().Status.Failed)
}

func TestDeadline(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	o := s.well()
	o[job.Train] = cluster.ContainerOutcome{After: time.Hour}
	s.admit(o)
	s.reaches(tuningv1alpha1.ReasonTraining)
	s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.ActiveDeadlineSeconds = ptr.To[int64](1) })
	tj := s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		assert.True(c, conditions.IsTrue(tj, tuningv1alpha1.ConditionFailed))
	})
	assert.Equal(t, tuningv1alpha1.ReasonDeadlineExceeded, ready(tj).Reason)
	require.Eventually(t, func() bool {
		for _, p := range s.pods() {
			if p.Status.Phase == corev1.PodPending || p.Status.Phase == corev1.PodRunning {
				return false
			}
		}
		return true
	}, eventually.Long, eventually.Tick, "the GPU is released")
}
