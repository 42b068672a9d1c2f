// SPDX-License-Identifier: Apache-2.0

package tuning_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/workspace-operator/internal/tuning"
)

func workspace(edit func(*kaitov1alpha1.Workspace)) *kaitov1alpha1.Workspace {
	w := &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "ns"},
		Tuning: &kaitov1alpha1.TuningSpec{
			Preset: &kaitov1alpha1.PresetSpec{Name: "phi-3-mini-128k-instruct"}, Method: "QLoRA", Config: "config",
			Input:  &kaitov1alpha1.DataSource{URLs: []string{"https://example.com/a.parquet"}},
			Output: &kaitov1alpha1.DataDestination{Image: "registry.example.com/a:1", ImagePushSecret: "push"},
		},
	}
	if edit != nil {
		edit(w)
	}
	return w
}

func TestTheJobSaysWhatTheWorkspaceSays(t *testing.T) {
	t.Parallel()
	w := workspace(func(w *kaitov1alpha1.Workspace) { w.Labels = map[string]string{"kueue.x-k8s.io/queue-name": "gpus"} })
	job := tuning.Job(
		tuning.Input{
			Workspace:    w,
			Labels:       map[string]string{"a": "b"},
			Revision:     "072cb75",
			Nodes:        2,
			GPUsPerNode:  4,
			NodeSelector: map[string]string{"n": "s"},
		},
	)
	assert.Equal(t, "w", job.Name)
	assert.Equal(t, "ns", job.Namespace)
	assert.Equal(t, map[string]string{"a": "b", "kueue.x-k8s.io/queue-name": "gpus"}, job.Labels)
	assert.Equal(t, tuningv1alpha1.ModelSpec{Preset: "phi-3-mini-128k-instruct", Revision: "072cb75"}, job.Spec.Model)
	assert.Equal(t, tuningv1alpha1.MethodQLora, job.Spec.Method)
	assert.Equal(t, "config", job.Spec.Config)
	assert.Equal(t, w.Tuning.Input.URLs, job.Spec.Input.URLs)
	assert.Equal(
		t, tuningv1alpha1.Destination{Image: "registry.example.com/a:1", ImagePushSecret: "push"}, job.Spec.Output,
	)
	assert.EqualValues(t, 4, *job.Spec.Resources.GPUsPerNode)
	assert.EqualValues(t, 2, *job.Spec.Resources.Nodes)
	assert.Equal(t, map[string]string{"n": "s"}, job.Spec.Resources.NodeSelector)
	assert.Nil(t, job.Spec.Suspend, "a controller may suspend the job after its creation")
}

func TestTheModelIsNamedAsTheUserNamedIt(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]tuningv1alpha1.ModelSpec{
		"phi-3-mini-128k-instruct":               {Preset: "phi-3-mini-128k-instruct", Revision: "r"},
		"microsoft/Phi-3-mini-128k-instruct":     {ID: "microsoft/Phi-3-mini-128k-instruct", Revision: "r"},
		"microsoft/Phi-3-mini-128k-instruct@old": {ID: "microsoft/Phi-3-mini-128k-instruct", Revision: "r"},
	} {
		w := workspace(func(w *kaitov1alpha1.Workspace) { w.Tuning.Preset.Name = name })
		assert.Equal(t, want, tuning.Job(tuning.Input{Workspace: w, Revision: "r"}).Spec.Model)
	}
	w := workspace(func(w *kaitov1alpha1.Workspace) {
		w.Tuning.Preset.PresetOptions = &kaitov1alpha1.PresetOptions{
			Image:             "i",
			ImagePullSecrets:  []string{"p"},
			ModelAccessSecret: "t",
		}
	})
	got := tuning.Job(tuning.Input{Workspace: w}).Spec.Model
	assert.Equal(t, "t", got.AccessSecret)
	assert.Equal(t, &tuningv1alpha1.ModelSource{Image: "i", ImagePullSecrets: []string{"p"}}, got.Source)
}

func TestTheJobSharesNoMemoryWithTheWorkspace(t *testing.T) {
	t.Parallel()
	w := workspace(func(w *kaitov1alpha1.Workspace) {
		w.Tuning.Output = &kaitov1alpha1.DataDestination{
			VolumeSource: embedded.NewVolumeSource(
				corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}},
			),
		}
	})
	before := string(w.Tuning.Output.VolumeSource.Raw)
	tuning.Job(tuning.Input{Workspace: w}).Spec.Output.VolumeSource.Raw[0] = 'x'
	assert.Equal(t, before, string(w.Tuning.Output.VolumeSource.Raw))
}

func TestEmptySectionsDoNotPanic(t *testing.T) {
	t.Parallel()
	assert.NotPanics(t, func() {
		tuning.Job(tuning.Input{Workspace: &kaitov1alpha1.Workspace{Tuning: &kaitov1alpha1.TuningSpec{}}})
	})
}

func TestRead(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	condition := func(conditionType, status, reason, message string) metav1.Condition {
		return metav1.Condition{Type: conditionType, Status: metav1.ConditionStatus(status), Reason: reason, Message: message}
	}
	for _, test := range []struct {
		name   string
		age    time.Duration
		status tuningv1alpha1.TuningJobStatus
		want   tuning.Result
	}{
		{"one without a condition waits", time.Minute, tuningv1alpha1.TuningJobStatus{}, tuning.Result{Recheck: time.Minute}},
		{"one that runs", time.Hour, tuningv1alpha1.TuningJobStatus{
			Conditions: []metav1.Condition{condition("Running", "True", "Training", ""), condition("Stalled", "False", "", "")},
			Progress:   &tuningv1alpha1.Progress{Step: 450, TotalSteps: 1000},
		}, tuning.Result{Phase: tuning.Running, Progress: "45% (450/1000)"}},
		{"one that waits for a person says why in its own words", time.Hour, tuningv1alpha1.TuningJobStatus{
			Conditions: []metav1.Condition{condition("Stalled", "True", "SecretNotFound", "no push")},
		}, tuning.Result{Reason: "SecretNotFound", Message: "no push", Stalled: true}},
		{"one that failed says why in its own words", time.Hour, tuningv1alpha1.TuningJobStatus{
			Conditions: []metav1.Condition{condition("Failed", "True", "DatasetInvalid", "row 3"), condition("Running", "False", "", "")},
		}, tuning.Result{Phase: tuning.Failed, Reason: "DatasetInvalid", Message: "row 3", Stalled: true}},
		{"one that failed and does not say why", time.Hour, tuningv1alpha1.TuningJobStatus{
			Conditions: []metav1.Condition{condition("Failed", "True", "", "")},
		}, tuning.Result{Phase: tuning.Failed, Reason: kaitov1alpha1.ReasonTuningFailed, Stalled: true}},
		{"one that succeeded", time.Hour, tuningv1alpha1.TuningJobStatus{
			Conditions: []metav1.Condition{condition("Succeeded", "True", "Succeeded", "")},
			Output:     &tuningv1alpha1.Output{Image: "i@sha256:1", Digest: "sha256:1"},
		}, tuning.Result{Phase: tuning.Succeeded, Image: "i@sha256:1", Digest: "sha256:1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			job := &tuningv1alpha1.TuningJob{
				ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "ns", CreationTimestamp: metav1.NewTime(now.Add(-test.age))},
				Status:     test.status,
			}
			assert.Equal(t, test.want, tuning.Read(job, 2*time.Minute, now))
		})
	}
	ignored := tuning.Read(
		&tuningv1alpha1.TuningJob{
			ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-2 * time.Minute))},
		},
		2*time.Minute,
		now,
	)
	assert.Equal(t, tuning.Ignored, ignored.Phase)
	assert.Equal(t, kaitov1alpha1.ReasonTuningOperatorMissing, ignored.Reason)
	assert.Contains(t, ignored.Message, "install the tuning-operator")
}
