package suite_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
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
	s := stacktest.Start(t, stack.Options{})
	stacktest.Seed(t, s)
	workspace := stacktest.EventuallyWorkspace(t, s, stacktest.SeedName, stacktest.Ready)

	assert.Positive(t, s.Fetched("/datasets/philschmid/dolly-15k-oai-style/resolve/main/data/train-00000-of-00001-54e3756291ca09c6.parquet"), "the data came over https")
	job := &tuningv1alpha1.TuningJob{}
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: stacktest.Namespace, Name: stacktest.SeedName}, job))
	output := job.Status.Output
	require.NotNil(t, output)
	assert.Equal(t, output.Digest, workspace.Status.Tuning.Digest)
	assert.Equal(t, output.Image, workspace.Status.Tuning.Image)
	assert.Contains(t, output.Image, "@"+output.Digest)
	files, err := sources.Files(t.Context(), output.Image, s.Authorities(), sources.Login{})
	require.NoError(t, err)
	assert.Equal(t, []string{"data/adapter_config.json", "data/adapter_model.safetensors"}, files, "KAITO's layout")

	pods := &corev1.PodList{}
	require.NoError(t, s.Client.List(t.Context(), pods, client.InNamespace(stacktest.Namespace), client.MatchingLabels{
		kaitov1alpha1.LabelWorkspaceName: stacktest.SeedName, "app.kubernetes.io/component": "inference",
	}))
	require.Len(t, pods.Items, 1)
	server, err := s.Serve(t.Context(), &pods.Items[0])
	require.NoError(t, err)
	defer func() { assert.NoError(t, server.Stop()) }()
	answer := post(t, "http://"+server.Address+"/chat", `{"prompt":"What is Kaito?"}`)
	assert.JSONEq(t, fmt.Sprintf(`{"Result":"[phi-3-mini-128k-instruct + adapter sha256:%x] You asked: What is Kaito?"}`, sha256.Sum256(simtrainer.Weights())), answer,
		"the engine has what was trained")
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	response, err := http.Post(url, "application/json", bytes.NewReader([]byte(body))) //nolint:gosec,noctx // this machine's own server
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return string(text)
}
