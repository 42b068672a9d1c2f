// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
	"kaito.sh/workspace-operator/internal/serving"
)

func TestWeightsComeFromTheConfiguredRegistry(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	const mirror = "registry.example.com/mirror/"
	own := &kaitov1alpha1.PresetOptions{Image: "registry.example.com/own:1"}
	for _, test := range []struct {
		name, registry string
		preset         kaitov1alpha1.PresetSpec
		want           string
		artifact       bool
	}{
		{"by default the model hub has them", "", kaitov1alpha1.PresetSpec{Name: "phi-4"}, "", false},
		{"a mirror has the public images", mirror, kaitov1alpha1.PresetSpec{Name: "phi-4"}, "registry.example.com/mirror/aks/kaito/kaito-phi-4:0.2.0", true},
		{"a model without a public image comes from the hub", mirror, kaitov1alpha1.PresetSpec{Name: "llama-3.3-70b-instruct"}, "", false},
		{"a revision of one's own is the hub's", mirror, kaitov1alpha1.PresetSpec{Name: "microsoft/phi-4@main"}, "", false},
		{"an image of one's own wins", mirror, kaitov1alpha1.PresetSpec{Name: "phi-4", AccessMode: "private", PresetOptions: own}, own.Image, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &kaitov1alpha1.Workspace{Inference: &kaitov1alpha1.InferenceSpec{Preset: &test.preset}}
			p, err := plan.Make(plan.ForWorkspace(w, false, "", "", ""), c, vllm.Engine{})
			require.NoError(t, err)
			engine := serving.NewEngine(p, w, vllm.Engine{}, serving.Registries{Weights: test.registry})
			assert.Equal(t, test.want, engine.WeightsImage)
			assert.Equal(t, test.artifact, engine.WeightsArtifact)
		})
	}
}

func TestEnginesComeFromTheConfiguredRegistry(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	w := &kaitov1alpha1.Workspace{
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4"}},
	}
	for registry, want := range map[string]string{
		"":                             "docker.io/vllm/vllm-openai:v",
		"registry.example.com":         "registry.example.com/vllm/vllm-openai:v",
		"registry.example.com/mirror/": "registry.example.com/mirror/vllm/vllm-openai:v",
	} {
		p, err := plan.Make(plan.ForWorkspace(w, false, "", "", ""), c, vllm.Engine{})
		require.NoError(t, err)
		assert.Contains(t, serving.NewEngine(p, w, vllm.Engine{}, serving.Registries{Engine: registry}).Image, want)
	}
}
func newEngine(model catalog.Model, preset string, args map[string][]string) serving.Engine {
	w := &kaitov1alpha1.Workspace{
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: preset}},
	}
	return serving.NewEngine(&plan.Plan{Model: model, Args: args}, w, vllm.Engine{}, serving.Registries{})
}

func TestServedNames(t *testing.T) {
	t.Parallel()
	e := newEngine(catalog.Model{ID: "Qwen/Qwen3-8B-AWQ"}, "qwen3@main", nil)
	assert.Equal(t, []string{"qwen3", "Qwen/Qwen3-8B-AWQ", "qwen3-8b-awq"}, e.Names, "the last one is KAITO's")
}

func TestCompletions(t *testing.T) {
	t.Parallel()
	base := catalog.Model{ID: "microsoft/phi-2", Engine: catalog.ModelEngine{NoChatTemplate: true}}
	assert.True(t, newEngine(base, "phi-2", nil).Completions)
	assert.False(t, newEngine(base, "phi-2", map[string][]string{"chat-template": {"/x.jinja"}}).Completions)
	assert.False(t, newEngine(catalog.Model{ID: "microsoft/phi-4"}, "phi-4", nil).Completions)
}
