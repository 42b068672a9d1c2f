// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
		BaseModel: "microsoft/Phi-3-mini-128k-instruct", BaseRevision: "0123", DatasetDigest: "sha256:data",
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

func TestStalledUntilCorrected(t *testing.T) {
	config := func(text string) func(*story) {
		return func(s *story) {
			require.NoError(
				s,
				shared.client.Create(
					s.Context(),
					&corev1.ConfigMap{ObjectMeta: s.meta("tuning-config"), Data: map[string]string{"training_config.yaml": text}},
				),
			)
		}
	}
	names := func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Config = "tuning-config" }
	for name, c := range map[string]struct {
		before func(*story)
		spec   func(*tuningv1alpha1.TuningJob)
		reason string
		says   string
		fix    func(*story)
	}{
		"a missing ConfigMap": {
			spec: names, reason: tuningv1alpha1.ReasonConfigNotFound, says: `"tuning-config"`,
			fix: config("QuantizationConfig: {load_in_4bit: true}"),
		},
		"qlora without bits": {
			before: config("LoraConfig: {r: 8}"), spec: names, reason: tuningv1alpha1.ReasonConfigContradiction, says: "QuantizationConfig.load_in_4bit",
			fix: func(s *story) {
				cm := &corev1.ConfigMap{ObjectMeta: s.meta("tuning-config")}
				require.NoError(s, shared.client.Patch(s.Context(), cm, client.RawPatch("application/merge-patch+json", []byte(`{"data":{"training_config.yaml":"QuantizationConfig: {load_in_8bit: true}"}}`))))
			},
		},
		"an unknown section": {
			before: config("QuantizationConfig: {load_in_4bit: true}\nTokenizerParams: {}"), spec: names, reason: tuningv1alpha1.ReasonConfigInvalid, says: "TokenizerParams",
			fix: func(s *story) {
				cm := &corev1.ConfigMap{ObjectMeta: s.meta("tuning-config")}
				require.NoError(s, shared.client.Delete(s.Context(), cm))
				config("QuantizationConfig: {load_in_4bit: true}")(s)
			},
		},
		"a ConfigMap without the key": {
			before: func(s *story) {
				require.NoError(s, shared.client.Create(s.Context(), &corev1.ConfigMap{ObjectMeta: s.meta("tuning-config"), Data: map[string]string{"config.yaml": ""}}))
			},
			spec: names, reason: tuningv1alpha1.ReasonConfigNotFound, says: "training_config.yaml",
			fix: func(s *story) { s.change(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Config = "" }) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tell(t)
			if c.before != nil {
				c.before(s)
			}
			s.submit(queued, c.spec)
			tj := s.reaches(c.reason)
			assert.True(t, conditions.IsTrue(tj, conditions.Stalled))
			assert.Contains(t, ready(tj).Message, c.says)
			assert.Nil(t, s.job(), "nothing is created")
			c.fix(s)
			tj = s.reaches(tuningv1alpha1.ReasonPending)
			assert.False(t, conditions.IsTrue(tj, conditions.Stalled))
			assert.NotNil(t, s.job(), "it continues without a restart")
		})
	}
}

func TestUnknownPreset(t *testing.T) {
	s := tell(t)
	s.submit(func(tj *tuningv1alpha1.TuningJob) { tj.Spec.Model.Preset = "phi-3-mini-128k-instrukt" })
	tj := s.reaches(tuningv1alpha1.ReasonModelUnknown)
	assert.Contains(t, ready(tj).Message, "phi-3-mini-128k-instruct", "the message suggests the closest name")
	assert.Nil(t, s.job())
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

func TestCheckpointsUseTheDefaultStorageClass(t *testing.T) {
	s := tell(t)
	class := defaultStorageClass(t)
	s.submit(queued, func(tj *tuningv1alpha1.TuningJob) { tj.Spec.TTLSecondsAfterFinished = ptr.To[int32](1) })
	key := client.ObjectKey{Namespace: s.namespace, Name: s.name + "-checkpoints"}
	s.reaches(tuningv1alpha1.ReasonPending)
	pvc := &corev1.PersistentVolumeClaim{}
	require.NoError(t, shared.client.Get(t.Context(), key, pvc))
	assert.Equal(t, s.name, metav1.GetControllerOf(pvc).Name)
	assert.Equal(t, class, *pvc.Spec.StorageClassName)
	bind(t, pvc)
	s.admit(s.well())
	s.reaches(tuningv1alpha1.ReasonSucceeded)
	require.Eventually(t, func() bool {
		err := shared.client.Get(t.Context(), key, &corev1.PersistentVolumeClaim{})
		return apierrors.IsNotFound(err)
	}, eventually.Long, eventually.Tick, "the volume claim is deleted after success and after its last pod")
}

func TestSeveralNodes(t *testing.T) {
	s := tell(t)
	s.submit(queued, func(tj *tuningv1alpha1.TuningJob) {
		tj.Spec.Resources = tuningv1alpha1.ResourcesSpec{Nodes: ptr.To[int32](2), GPUsPerNode: ptr.To[int32](8)}
	})
	s.reaches(tuningv1alpha1.ReasonPending)
	svc := &corev1.Service{}
	require.NoError(
		t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name + "-ranks"}, svc),
	)
	assert.Equal(t, corev1.ClusterIPNone, svc.Spec.ClusterIP)
	assert.EqualValues(t, 29500, svc.Spec.Ports[0].Port)
	policy := &networkingv1.NetworkPolicy{}
	require.NoError(
		t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name + "-tuning"}, policy),
	)
	assert.Equal(t, map[string]string{"tuning.kaito.sh/job": s.name}, policy.Spec.PodSelector.MatchLabels)
	assert.Equal(t, batchv1.IndexedCompletion, *s.job().Spec.CompletionMode)
	assert.Equal(t, svc.Name, s.job().Spec.Template.Spec.Subdomain)
}

func TestJobOfAnotherOwnerStaysUnchanged(t *testing.T) {
	s := tell(t)
	foreign := &batchv1.Job{ObjectMeta: s.meta(s.name), Spec: batchv1.JobSpec{
		Suspend: ptr.To(true),
		Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers:    []corev1.Container{{Name: "c", Image: "example.com/c:1"}},
			},
		},
	}}
	require.NoError(t, shared.client.Create(t.Context(), foreign))
	s.submit()
	tj := s.reaches(tuningv1alpha1.ReasonNameTaken)
	assert.True(t, conditions.IsTrue(tj, conditions.Stalled))
	after := s.job()
	assert.Empty(t, after.OwnerReferences, "it is not adopted")
	assert.Equal(t, foreign.Spec, after.Spec, "it is not changed")
}

func TestRefusedJobIsReported(t *testing.T) {
	s := tell(t)
	quota := &corev1.ResourceQuota{
		ObjectMeta: s.meta("none"),
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": *zero()}},
	}
	require.NoError(t, shared.client.Create(t.Context(), quota))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(quota), quota))
		assert.NotEmpty(c, quota.Status.Hard)
	}, eventually.Long, eventually.Tick)
	s.submit()
	tj := s.reaches(tuningv1alpha1.ReasonJobRejected)
	assert.Contains(t, ready(tj).Message, "exceeded quota")
}

func TestRecreatedTuningJobGetsANewJob(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	s.reaches(tuningv1alpha1.ReasonPending)
	first := s.job()
	require.NoError(t, shared.client.Delete(t.Context(), s.get()))
	require.Eventually(t, func() bool {
		return apierrors.IsNotFound(
			shared.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, &tuningv1alpha1.TuningJob{}),
		)
	}, eventually.Long, eventually.Tick)
	s.submit(queued)
	require.Eventually(
		t, func() bool { j := s.job(); return j != nil && j.UID != first.UID }, eventually.Long, eventually.Tick,
	)
	s.reaches(tuningv1alpha1.ReasonPending)
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
