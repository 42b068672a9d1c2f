// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// The addresses that a pod's gateway is rendered with.
const (
	clients = "http://127.0.0.1:5000"
	status  = "http://127.0.0.1:5001"
)

// small is the user's configuration: the small model's context, and no compiler.
const small = "vllm: {max-model-len: 4096, enforce-eager: true}"

// traced needs no compiler, either. vLLM 0.32.0 on CPUs allocates what passes between stages only where it traces.
const traced = "vllm: {compilation-config: {mode: 2, backend: eager}}"

func answers(path string) func() bool {
	return func() bool {
		res, err := http.Get(status + path)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}
}

// ask completes a prompt, always the same.
func ask(t *testing.T, name string) answer {
	t.Helper()
	return call(t, http.MethodPost, clients+"/v1/completions",
		fmt.Sprintf(`{"model":%q,"prompt":"the sky is","max_tokens":8,"temperature":0,"ignore_eos":true}`, name))
}

func complete(t *testing.T, name string) string {
	t.Helper()
	got := ask(t, name)
	require.Equal(t, http.StatusOK, got.status, got.body)
	return field(t, got.body, "choices.0.text").(string)
}

// TestADeploymentsPodServesTwoAdapters runs the containers of a pod as they are rendered.
func TestADeploymentsPodServesTwoAdapters(t *testing.T) {
	k := newKubelet(t)
	pod := rendered(t, "llama-3.1-8b-instruct", "Standard_NC24ads_A100_v4", 1, small, "first", "second").Spec
	k.make(t, "weights/data")
	k.templates(t, pod)
	k.make(t, "adapters/first", "--adapter=1")
	k.make(t, "adapters/second", "--adapter=2")
	for _, c := range pod.Containers {
		k.run(t, k.spec("pod", c))
	}
	until(t, "the pod is ready", loading, answers("/readyz"))

	models := call(t, http.MethodGet, clients+"/v1/models", "").body
	said := map[string]string{}
	for _, name := range []string{model, "first", "second", "meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"} {
		assert.Contains(t, models, `"id":"`+name+`"`)
		said[name] = complete(t, name)
	}
	assert.NotEqual(t, said[model], said["first"], "an adapter changes the answer")
	assert.NotEqual(t, said["first"], said["second"])
	assert.Equal(t, said[model], said["llama-3.1-8b-instruct"], "another name of the same model")
	assert.Contains(t, call(t, http.MethodPost, clients+"/v1/completions", `{"model":"third","prompt":"x"}`).body, "second",
		"an unknown name is answered with those that there are")

	chat := call(t, http.MethodPost, clients+"/chat", `{"prompt":"the sky"}`)
	assert.Equal(t, http.StatusOK, chat.status, chat.body)
	assert.NotEmpty(t, field(t, chat.body, "Result"))
}

func TestABaseModelContinuesThePromptOfAChat(t *testing.T) {
	k := newKubelet(t)
	pod := rendered(t, "phi-2", "Standard_NC24ads_A100_v4", 1, "vllm: {enforce-eager: true}").Spec
	k.make(t, "weights/data", "--base")
	for _, c := range pod.Containers {
		k.run(t, k.spec("pod", c))
	}
	until(t, "the pod is ready", loading, answers("/readyz"))
	chat := call(t, http.MethodPost, clients+"/chat", `{"prompt":"the sky"}`)
	assert.Equal(t, http.StatusOK, chat.status, chat.body)
	assert.NotEmpty(t, field(t, chat.body, "Result"))
	refused := call(t, http.MethodPost, clients+chatPath, `{"model":"`+model+`","messages":[{"role":"user","content":"x"}]}`)
	assert.Equal(t, http.StatusBadRequest, refused.status, refused.body)
	assert.Contains(t, refused.body, "chat template")
}

// TestAllRanksOfAStatefulSetRestartWithOne kills the engine of each rank in turn.
func TestAllRanksOfAStatefulSetRestartWithOne(t *testing.T) {
	k := newKubelet(t)
	pod := rendered(t, "falcon-40b-instruct", "Standard_NC24ads_A100_v4", 2, traced).Spec
	k.make(t, "weights/data")
	k.templates(t, pod)
	install(t, k, pod)
	var engines []*container
	for rank := range 2 {
		name := fmt.Sprintf("pod-%d", rank)
		engines = append(engines, k.run(t, k.spec(name, pod.Containers[0], fmt.Sprintf("NODE_RANK=%d", rank))))
	}
	k.run(t, k.spec("pod-0", pod.Containers[1]))
	until(t, "the server is ready", loading, answers("/readyz"))
	first := complete(t, model)
	for rank := range 2 {
		t.Logf("killing the engine of rank %d", rank)
		require.NoError(t, syscall.Kill(engines[rank].child(t), syscall.SIGKILL))
		until(t, "both ranks were started again", loading, func() bool {
			return engines[0].count() == rank+1 && engines[1].count() == rank+1
		})
		until(t, "the server answers again", loading, func() bool { return ask(t, model).status == http.StatusOK })
		assert.Equal(t, first, complete(t, model))
	}
	assert.Equal(t, []int{2, 2}, []int{engines[0].count(), engines[1].count()}, "no rank ends without a reason")
}

// install runs the init container that brings the supervisor.
func install(t *testing.T, k *kubelet, pod corev1.PodSpec) {
	t.Helper()
	require.Len(t, pod.InitContainers, 2, "the weights are there")
	c := pod.InitContainers[1]
	k.write(t, c.VolumeMounts[0].Name+"/.folder", "", 0o600)
	p, err := k.launcher.Start(k.spec("pod", c))
	require.NoError(t, err)
	<-p.Ended()
	require.FileExists(t, filepath.Join(k.folder, "ranks", "ranks"), "the engine's container starts this copy")
}
