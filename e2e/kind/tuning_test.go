// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/simtrainer"
	"kaito.sh/e2e/sources"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
)

const (
	quickStartName = "workspace-tuning-phi-3"
	quickStartFile = "../../examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml"
)

// quickStart applies its file, as it is, but for the registry.
func (w *world) quickStart(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(quickStartFile)
	require.NoError(t, err)
	filled := strings.NewReplacer("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE", registryName+"/tuned/phi-3", "ACR_REGISTRY_SECRET_HERE", pushSecret).
		Replace(string(text))
	file := filepath.Join(t.TempDir(), "workspace.yaml")
	require.NoError(t, os.WriteFile(file, []byte(filled), 0o600))
	w.kubectl(t, "apply", "-f", file)

	job := w.trains(t, metav1.NamespaceDefault, quickStartName)
	t.Log("\n" + w.kubectl(t, "get", "workspaces,tuningjobs,jobs,pods,networkpolicies", "-o", "wide"))
	workspace := w.ready(t, quickStartName, replaced)
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKeyFromObject(job), job))
	output := job.Status.Output
	require.NotNil(t, output)
	assert.Equal(t, output.Digest, workspace.Status.Tuning.Digest)
	assert.Equal(t, "microsoft/Phi-3-mini-128k-instruct", output.BaseModel)
	assert.NotEmpty(t, output.DatasetDigest)
	assert.Equal(
		t, []string{"data/adapter_config.json", "data/adapter_model.safetensors"}, w.files(t, "tuned/phi-3@"+output.Digest),
	)

	engine := w.servingPod(t, quickStartName).Spec
	assert.Contains(
		t, strings.Join(engine.Containers[0].Args, " "), quickStartName+"=", "the engine is started with the adapter",
	)
	i := slices.IndexFunc(engine.Volumes, func(v corev1.Volume) bool { return v.Image != nil })
	require.GreaterOrEqual(t, i, 0, "the kubelet mounts the image, for it can")
	assert.Contains(t, engine.Volumes[i].Image.Reference, output.Digest)
	assert.JSONEq(
		t,
		fmt.Sprintf(
			`{"Result":"[phi-3-mini-128k-instruct + adapter sha256:%x] You asked: What is Kaito?"}`,
			sha256.Sum256(simtrainer.Weights()),
		),
		w.ask(t, quickStartName, "What is Kaito?"),
		"the engine has what was trained",
	)
	t.Log("\n" + w.kubectl(t, "get", "workspaces,tuningjobs,machines,nodes,pods,services", "-o", "wide"))
}

// trains waits until the TuningJob is seen at work: its pods were asked how far they are.
func (w *world) trains(t *testing.T, namespace, name string) *tuningv1alpha1.TuningJob {
	t.Helper()
	job := &tuningv1alpha1.TuningJob{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, job))
		progress := job.Status.Progress
		if assert.NotNil(c, progress, "%v", job.Status.Conditions) {
			assert.Positive(c, progress.Step)
			assert.Less(c, progress.Step, progress.TotalSteps)
		}
	}, replaced, look)
	return job
}

// files of an image, by its repository and digest.
func (w *world) files(t *testing.T, path string) []string {
	t.Helper()
	names, err := sources.Files(t.Context(), w.registry+"/"+path, w.trusted, login)
	require.NoError(t, err)
	return names
}

func (w *world) servingPod(t *testing.T, workspace string) *corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	require.NoError(
		t,
		w.client.List(
			t.Context(), pods, client.InNamespace(metav1.NamespaceDefault),
			client.MatchingLabels{kaitov1alpha1.LabelWorkspaceName: workspace},
		),
	)
	i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.Containers[0].Name == "engine" })
	require.GreaterOrEqual(t, i, 0, "%d pods", len(pods.Items))
	return &pods.Items[i]
}

// alone is a TuningJob with no Workspace, on a node that is there, in a namespace that enforces the strictest standard,
// whose pod is evicted while it trains.
func (w *world) alone(t *testing.T) {
	t.Helper()
	const namespace, name = "tuners", "alone"
	w.namespace(t, namespace, "restricted")
	w.admit(t, namespace)
	require.NoError(t, w.client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "long", Namespace: namespace},
		Data:       map[string]string{"training_config.yaml": "training_config:\n  TrainingArguments:\n    max_steps: 200\n"},
	}))
	require.NoError(t, w.client.Create(t.Context(), &tuningv1alpha1.TuningJob{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: tuningv1alpha1.TuningJobSpec{
			Model: tuningv1alpha1.ModelSpec{ID: "org/tiny"}, Method: tuningv1alpha1.MethodLora, Config: "long",
			Input:      tuningv1alpha1.Source{Dataset: "org/conversations"},
			Output:     tuningv1alpha1.Destination{Image: registryName + "/tuned/alone:1", ImagePushSecret: pushSecret},
			Resources:  tuningv1alpha1.ResourcesSpec{GPUsPerNode: ptr.To[int32](0)},
			Checkpoint: tuningv1alpha1.CheckpointSpec{EverySteps: ptr.To[int32](10)},
		},
	}))
	w.trains(t, namespace, name)
	pods := &corev1.PodList{}
	require.NoError(
		t, w.client.List(t.Context(), pods, client.InNamespace(namespace), client.MatchingLabels{batchv1.JobNameLabel: name}),
	)
	require.Len(t, pods.Items, 1)
	evicted := pods.Items[0]
	require.NoError(
		t,
		w.client.SubResource("eviction").
			Create(t.Context(), &evicted, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: evicted.Name, Namespace: namespace}}),
	)

	job := &tuningv1alpha1.TuningJob{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, job))
		assert.True(c, conditions.IsTrue(job, tuningv1alpha1.ConditionSucceeded), "%v", job.Status.Conditions)
	}, replaced, look)
	if assert.NotEmpty(t, job.Status.Attempts) {
		first := job.Status.Attempts[0]
		assert.Positive(t, first.ToStep)
		assert.Zero(t, first.LostSteps, "it was given the time for a checkpoint")
		t.Logf("evicted at step %d: %s, %s", first.ToStep, first.Reason, first.Message)
	}
	assert.Equal(
		t, []string{"data/adapter_config.json", "data/adapter_model.safetensors"},
		w.files(t, "tuned/alone@"+job.Status.Output.Digest),
	)
	policies := &networkingv1.NetworkPolicyList{}
	require.NoError(t, w.client.List(t.Context(), policies, client.InNamespace(namespace)))
	assert.Len(t, policies.Items, 1, "the job's pods are closed but for who asks for progress")
	t.Log(
		"\n" + w.kubectl(t, "get", "tuningjobs,jobs,pods,persistentvolumeclaims", "--namespace", namespace, "-o", "wide"),
	)
	require.NoError(t, w.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
}
