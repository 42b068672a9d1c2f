// SPDX-License-Identifier: Apache-2.0

package suite_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/simtrainer"
	"kaito.sh/e2e/sources"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// The bytes of the quick start, from the hub to an answer: each step's own program, with the arguments of the pod.
func TestTheQuickStartsBytesGoAllTheWay(t *testing.T) {
	stacktest.Parallel(t)
	s := stacktest.Start(t, stack.Options{})
	stacktest.QuickStart(t, s)
	workspace := stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)

	assert.Positive(
		t,
		s.Fetched("/datasets/philschmid/dolly-15k-oai-style/resolve/main/data/train-00000-of-00001-54e3756291ca09c6.parquet"),
		"the data came over https",
	)
	job := &tuningv1alpha1.TuningJob{}
	require.NoError(
		t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: stacktest.Namespace, Name: stacktest.QuickStartName}, job),
	)
	output := job.Status.Output
	require.NotNil(t, output)
	assert.Equal(t, output.Digest, workspace.Status.Tuning.Digest)
	assert.Equal(t, output.Image, workspace.Status.Tuning.Image)
	assert.Contains(t, output.Image, "@"+output.Digest)
	files, err := sources.Files(t.Context(), output.Image, s.Authorities(), sources.Login{})
	require.NoError(t, err)
	assert.Equal(
		t, []string{"data/adapter_config.json", "data/adapter_model.safetensors", "data/chat_template.jinja"}, files,
		"KAITO's layout, and the template that was trained with",
	)
	pod := servingPod(t, s, stacktest.QuickStartName)
	assert.Contains(t, pod.Spec.Containers[0].Args, "--chat-template=/adapters/"+stacktest.QuickStartName+"/chat_template.jinja")

	server, err := s.Serve(t.Context(), pod)
	require.NoError(t, err)
	defer func() { assert.NoError(t, server.Stop()) }()
	answer := post(t, "http://"+server.Address+"/chat", `{"prompt":"What is Kaito?"}`)
	assert.JSONEq(
		t,
		fmt.Sprintf(
			`{"Result":"[phi-3-mini-128k-instruct + adapter sha256:%x] You asked: What is Kaito?"}`,
			sha256.Sum256(simtrainer.Weights()),
		),
		answer,
		"the engine has what was trained",
	)
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	response, err := http.Post(
		url, "application/json", bytes.NewReader([]byte(body)),
	) //nolint:gosec,noctx // this machine's own server
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return string(text)
}

// Weights in a registry of one's own: packaged by the runner, mounted or fetched as the nodes can, and served from
// there.
func TestAModelThatSomebodyHasPackagedIsServed(t *testing.T) {
	stacktest.Parallel(t)
	const name = "packaged"
	s := stacktest.Start(t, stack.Options{ServedModels: []string{name}})
	image := packageModel(t, s)
	workspace := &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: stacktest.Namespace},
		Resource: kaitov1alpha1.ResourceSpec{
			InstanceType:  "Standard_NC24ads_A100_v4",
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		},
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{
			Name: "phi-4-mini-instruct", AccessMode: "private", PresetOptions: &kaitov1alpha1.PresetOptions{Image: image},
		}},
	}
	require.NoError(t, s.Client.Create(t.Context(), workspace))
	ready := stacktest.EventuallyWorkspace(t, s, name, stacktest.Ready)
	assert.Equal(t, image, ready.Status.Plan.WeightsImage)
	pod := servingPod(t, s, name)
	assert.Contains(t, strings.Join(pod.Spec.Containers[0].Command, " "), "/data", "the engine loads a folder, not a name")
	server, err := s.Serve(t.Context(), pod)
	require.NoError(t, err, "the image's bytes are where the engine looks for them")
	defer func() { assert.NoError(t, server.Stop()) }()
	assert.JSONEq(
		t,
		`{"Result":"[packaged] You asked: Whose are you?"}`,
		post(t, "http://"+server.Address+"/chat", `{"prompt":"Whose are you?"}`),
	)
}

// packageModel pushes a small model directory to the stack's registry, and returns the image by digest.
func packageModel(t *testing.T, s *stack.Stack) string {
	t.Helper()
	folder, authorities := t.TempDir(), filepath.Join(t.TempDir(), "ca.crt")
	for file, content := range map[string][]byte{"config.json": []byte(`{"model_type":"llama"}`), "model.safetensors": sources.Safetensors("w", 8)} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), content, 0o600))
	}
	require.NoError(t, os.WriteFile(authorities, s.Authorities(), 0o600))
	reference := s.RegistryHost() + "/models/own:1"
	run := exec.CommandContext(
		t.Context(), filepath.Join(stacktest.Root(t), "bin", "runner"), "package", "--allow-private", "--from="+folder,
		"--to="+reference,
	)
	run.Env = append(os.Environ(), "SSL_CERT_FILE="+authorities)
	out, err := run.CombinedOutput()
	require.NoError(t, err, string(out))
	files, err := sources.Files(t.Context(), reference, s.Authorities(), sources.Login{})
	require.NoError(t, err)
	assert.Equal(t, []string{"data/config.json", "data/model.safetensors"}, files)
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(string(out))
	require.NotEmpty(t, digest, "it says what it has pushed: %s", out)
	return s.RegistryHost() + "/models/own@" + digest
}

func servingPod(t *testing.T, s *stack.Stack, workspace string) *corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	require.NoError(t, s.Client.List(t.Context(), pods, client.InNamespace(stacktest.Namespace), client.MatchingLabels{
		kaitov1alpha1.LabelWorkspaceName: workspace, "app.kubernetes.io/component": "inference",
	}))
	require.Len(t, pods.Items, 1)
	return &pods.Items[0]
}
