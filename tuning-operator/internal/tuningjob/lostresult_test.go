// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/message"
)

// runWithoutResult runs a TuningJob whose pod succeeds without a message about the adapter.
func (s *story) runWithoutResult() {
	s.Helper()
	s.submit(queued)
	o := s.well()
	o[job.Push] = cluster.ContainerOutcome{After: 1}
	s.admit(o)
}

// asks waits for the pod of the result Job. Before it, the pod that tuned may be seen while it pushes.
func (s *story) asks() *corev1.Pod {
	s.Helper()
	tj := s.reaches(tuningv1alpha1.ReasonPushing)
	var asked *corev1.Pod
	require.EventuallyWithT(s, func(c *assert.CollectT) {
		for _, pod := range s.pods() {
			if live(pod) && pod.Labels[batchv1.JobNameLabel] == job.ResultJobName(tj) {
				asked = &pod
			}
		}
		assert.NotNil(c, asked, "no pod of the result Job: %s", ready(tj).Message)
	}, eventually.Long, eventually.Tick)
	return asked
}

// found returns the outcome of the pod when the registry has the adapter.
func (s *story) found() cluster.Outcome {
	return cluster.Outcome{job.Resolve: s.ends(message.Result{Step: message.StepResolve, Push: &message.Push{
		Image: "registry.example/team/adapter:0.0.1", Digest: digest, Size: 99, BaseRevision: "4567",
	}})}
}

func TestLostResultIsReadFromTheRegistry(t *testing.T) {
	s := tell(t)
	s.runWithoutResult()
	pod := s.asks()
	assert.Empty(t, pod.Spec.NodeSelector, "the nodes of the TuningJob may be gone")
	assert.NotContains(t, pod.Spec.Containers[0].Resources.Limits, corev1.ResourceName("nvidia.com/gpu"))
	s.outcome(pod, s.found())
	done := s.reaches(tuningv1alpha1.ReasonSucceeded)
	assert.Equal(t, "registry.example/team/adapter@"+digest, done.Status.Output.Image)
	assert.Equal(t, "4567", done.Status.Output.BaseRevision)
	assert.Empty(t, done.Status.Attempts, "nothing is retried")
}

func TestUnrecoveredResultFailsTheTuningJob(t *testing.T) {
	for name, outcome := range map[string]struct {
		message string
		code    int32
		says    string
	}{
		"unknown to the registry": {`{"version":1,"step":"resolve","reason":"SourceNotFound","message":"no such tag"}`, message.ExitPermanent, "SourceNotFound: no such tag"},
		"no answer":               {"", 0, "left no termination message"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t)
			s.runWithoutResult()
			s.outcome(
				s.asks(),
				cluster.Outcome{job.Resolve: cluster.ContainerOutcome{After: 1, ExitCode: outcome.code, Message: outcome.message}},
			)
			failed := s.reaches(tuningv1alpha1.ReasonResultMissing)
			assert.True(t, conditions.IsTrue(failed, tuningv1alpha1.ConditionFailed))
			assert.Contains(t, ready(failed).Message, outcome.says)
		})
	}
}

func TestLostAnswerIsAskedForAgain(t *testing.T) {
	s := tell(t)
	s.submit(queued)
	// The state after the pod of the result Job has ended and was deleted while the operator did not run.
	asked := job.ResultJob(s.get(), job.Options{RunnerImage: "example.com/runner:1"})
	asked.Spec.Suspend = new(true)
	require.NoError(t, controllerutil.SetControllerReference(s.get(), asked, shared.client.Scheme()))
	require.NoError(t, shared.client.Create(t.Context(), asked))
	before, now := asked.DeepCopy(), metav1.Now()
	asked.Status = batchv1.JobStatus{
		StartTime:      &now,
		CompletionTime: &now,
		Succeeded:      1,
		Conditions: []batchv1.JobCondition{
			{
				Type:   batchv1.JobSuccessCriteriaMet,
				Status: corev1.ConditionTrue,
			},
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue},
		},
	}
	require.NoError(t, shared.client.Status().Patch(t.Context(), asked, client.MergeFrom(before)))
	o := s.well()
	o[job.Push] = cluster.ContainerOutcome{After: 1}
	s.admit(o)

	s.outcome(s.asks(), s.found())
	assert.Equal(t, digest, s.reaches(tuningv1alpha1.ReasonSucceeded).Status.Output.Digest)
}

func TestResultJobOfAnotherOwnerStaysUnchanged(t *testing.T) {
	s := tell(t)
	theirs := &batchv1.Job{
		ObjectMeta: s.meta(resultJobName(s)),
		Spec: batchv1.JobSpec{Suspend: new(true), Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers:    []corev1.Container{{Name: "main", Image: "example.com/theirs"}},
			},
		}},
	}
	require.NoError(t, shared.client.Create(t.Context(), theirs))
	s.runWithoutResult()
	// The other Job is not in this operator's cache: the operator finds it when it creates its own.
	s.reaches(tuningv1alpha1.ReasonResultMissing)
	require.Eventually(t, func() bool {
		return shared.client.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs) == nil &&
			len(theirs.OwnerReferences) == 0
	}, eventually.Long, eventually.Tick)
}
