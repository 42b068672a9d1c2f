// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// story is a namespace with a TuningJob, and the actions of a test in it.
type story struct {
	*testing.T
	namespace string
	name      string
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func tell(t *testing.T) *story {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	require.NoError(t, shared.client.Create(t.Context(), ns))
	t.Cleanup(func() { assert.NoError(t, shared.client.Delete(context.Background(), ns)) })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(
			c, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{}),
		)
	}, eventually.Long, eventually.Tick)
	return &story{T: t, namespace: ns.Name, name: "tune"}
}

func (s *story) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: s.namespace, Name: name}
}

// submit creates the TuningJob of the quick start with the given changes.
func (s *story) submit(change ...func(*tuningv1alpha1.TuningJob)) {
	s.Helper()
	tj := &tuningv1alpha1.TuningJob{
		ObjectMeta: s.meta(s.name),
		Spec: tuningv1alpha1.TuningJobSpec{
			Model: tuningv1alpha1.ModelSpec{Preset: "phi-3-mini-128k-instruct"}, Method: "qlora",
			Input:  tuningv1alpha1.Source{URLs: []string{"https://example.com/train.parquet"}},
			Output: tuningv1alpha1.Destination{Image: "registry.example/team/adapter:0.0.1", ImagePushSecret: "acr"},
		},
	}
	for _, c := range change {
		c(tj)
	}
	require.NoError(s, shared.client.Create(s.Context(), tj))
}

func (s *story) get() *tuningv1alpha1.TuningJob {
	s.Helper()
	tj := &tuningv1alpha1.TuningJob{}
	require.NoError(s, shared.client.Get(s.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, tj))
	return tj
}

// change patches the TuningJob.
func (s *story) change(change func(*tuningv1alpha1.TuningJob)) {
	s.Helper()
	tj := s.get()
	before := tj.DeepCopy()
	change(tj)
	require.NoError(s, shared.client.Patch(s.Context(), tj, client.MergeFrom(before)))
}

// reaches waits until the verdict has a reason, and returns the TuningJob.
func (s *story) reaches(reason string) *tuningv1alpha1.TuningJob {
	s.Helper()
	return s.until(func(c *assert.CollectT, tj *tuningv1alpha1.TuningJob) {
		ready := conditions.Get(tj, conditions.Ready)
		require.NotNil(c, ready)
		assert.Equal(c, reason, ready.Reason, ready.Message)
	})
}

func (s *story) until(check func(*assert.CollectT, *tuningv1alpha1.TuningJob)) *tuningv1alpha1.TuningJob {
	s.Helper()
	var tj *tuningv1alpha1.TuningJob
	require.EventuallyWithT(s, func(c *assert.CollectT) {
		tj = &tuningv1alpha1.TuningJob{}
		require.NoError(c, shared.client.Get(s.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, tj))
		check(c, tj)
	}, eventually.Long, eventually.Tick)
	return tj
}

// job returns the Job of the TuningJob, or nil.
func (s *story) job() *batchv1.Job {
	s.Helper()
	j := &batchv1.Job{}
	err := shared.client.Get(s.Context(), client.ObjectKey{Namespace: s.namespace, Name: s.name}, j)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(s, err)
	return j
}

// pod waits for the newest pod that has not ended.
func (s *story) pod() *corev1.Pod {
	s.Helper()
	var found *corev1.Pod
	require.EventuallyWithT(s, func(c *assert.CollectT) {
		found = nil
		for i, p := range s.pods() {
			if live(p) {
				found = &s.pods()[i]
			}
		}
		assert.NotNil(c, found)
	}, eventually.Long, eventually.Tick)
	return found
}

func live(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded
}

func (s *story) pods() []corev1.Pod {
	s.Helper()
	var pods corev1.PodList
	require.NoError(s, shared.client.List(s.Context(), &pods, client.InNamespace(s.namespace)))
	return pods.Items
}

// outcome sets the outcome of a pod's containers.
func (s *story) outcome(pod *corev1.Pod, o cluster.Outcome) {
	s.Helper()
	s.annotate(pod, cluster.OutcomeAnnotation, o.Annotation())
}

func (s *story) annotate(pod *corev1.Pod, key, value string) {
	s.Helper()
	before := pod.DeepCopy()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[key] = value
	require.NoError(s, shared.client.Patch(s.Context(), pod, client.MergeFrom(before)))
}

func (s *story) encode(m message.Result) string {
	s.Helper()
	raw, err := m.Encode()
	require.NoError(s, err)
	return string(raw)
}

// admit acts as Kueue: it changes the template of the suspended Job and starts it. Tests use it to set the outcome of
// all pods before they exist.
func (s *story) admit(o cluster.Outcome) {
	s.Helper()
	var j *batchv1.Job
	require.Eventually(s, func() bool { j = s.job(); return j != nil }, eventually.Long, eventually.Tick)
	before := j.DeepCopy()
	j.Spec.Template.Annotations[cluster.OutcomeAnnotation] = o.Annotation()
	require.NoError(s, shared.client.Patch(s.Context(), j, client.MergeFrom(before)))
	before = j.DeepCopy()
	j.Spec.Suspend = ptr.To(false)
	require.NoError(s, shared.client.Patch(s.Context(), j, client.MergeFrom(before)))
}

func queued(tj *tuningv1alpha1.TuningJob) {
	tj.Labels = map[string]string{job.LabelQueue: "gpus"}
}

func (s *story) ends(m message.Result) cluster.ContainerOutcome {
	return cluster.ContainerOutcome{After: 1, Message: s.encode(m)}
}

func float(v float64) *float64 { return &v }

// well returns the outcome of a pod whose steps all succeed.
func (s *story) well() cluster.Outcome {
	return cluster.Outcome{
		job.Fetch: s.ends(
			message.Result{
				Step: message.StepFetch,
				Fetch: &message.Fetch{
					BaseModel:     "microsoft/Phi-3-mini-128k-instruct",
					BaseRevision:  "0123",
					DatasetDigest: "sha256:data",
					Rows:          15000,
				},
			},
		),
		job.Train: s.ends(
			message.Result{
				Step:  message.StepTrain,
				Train: &message.Train{Step: 300, TotalSteps: 300, Loss: float(0.75), Epoch: float(3)},
			},
		),
		job.Push: s.ends(
			message.Result{
				Step: message.StepPush,
				Push: &message.Push{
					Image:         "registry.example/team/adapter:0.0.1",
					Digest:        digest,
					Size:          1234,
					BaseRevision:  "0123",
					DatasetDigest: "sha256:data",
					ChatTemplate:  true,
				},
			},
		),
	}
}

func ready(tj *tuningv1alpha1.TuningJob) *metav1.Condition {
	return conditions.Get(tj, conditions.Ready)
}
