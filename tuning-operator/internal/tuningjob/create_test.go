// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

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
