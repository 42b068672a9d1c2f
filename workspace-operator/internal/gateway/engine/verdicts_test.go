// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

// TestConfigurationKeysHaveTheEnginesVerdict asks the engine's own parser about each key of hack/catalogue/cases.yaml,
// and us.
func TestConfigurationKeysHaveTheEnginesVerdict(t *testing.T) {
	if *python == "" {
		t.Skip("no vLLM: make test-engine has one")
	}
	interpreter, err := filepath.Abs(*python)
	require.NoError(t, err)
	ask := exec.CommandContext(t.Context(), interpreter, "verdicts.py")
	ask.Dir = filepath.Join("..", "..", "..", "..", "hack", "catalogue")
	ask.Env = append(ask.Environ(), "VLLM_CONFIGURE_LOGGING=0")
	out, err := ask.Output()
	require.NoError(t, err, string(out))
	var said struct {
		Version string
		Cases   []struct {
			Config map[string]any
			// Own is the verdict on the key, and Verdict that on what we make of it.
			Own, Verdict string
		}
	}
	require.NoError(t, json.Unmarshal(out, &said), string(out))
	require.GreaterOrEqual(t, len(said.Cases), 40)
	c, err := catalog.Load()
	require.NoError(t, err)
	at := slices.IndexFunc(c.Engines(), func(e catalog.Engine) bool { return e.Version == said.Version })
	require.GreaterOrEqual(t, at, 0, "the catalogue has no vLLM %s", said.Version)
	release := c.Engines()[at]
	refused := 0
	for _, one := range said.Cases {
		text, err := yaml.Marshal(map[string]any{"vllm": one.Config})
		require.NoError(t, err)
		_, err = vllm.Engine{}.ReadConfig(string(text), release)
		if strings.HasPrefix(one.Own, "refused") && one.Verdict == "" {
			refused++
			assert.Error(t, err, "%s: the engine: %s", text, one.Own)
			continue
		}
		assert.NoError(t, err, "%s", text)
		assert.Equal(t, "accepted", one.Verdict, "%s", text)
	}
	t.Logf("vLLM %s: %d keys, %d of them refused", said.Version, len(said.Cases), refused)
}

// askPEFT prints whether the engine would load an adapter of each configuration.
const askPEFT = `
import json, sys
from vllm.config.lora import LoRAConfig
from vllm.lora.peft_helper import PEFTHelper
out = []
for case in json.load(sys.stdin):
    try:
        PEFTHelper.from_dict({"r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], **case}).validate_legal(LoRAConfig(max_lora_rank=512))
        out.append("")
    except ValueError as why:
        out.append(str(why))
print(json.dumps(out))
`

// TestAdaptersHaveTheEnginesVerdict asks the engine about settings of LoraConfig, and us.
func TestAdaptersHaveTheEnginesVerdict(t *testing.T) {
	if *python == "" {
		t.Skip("no vLLM: make test-engine has one")
	}
	cases := []map[string]any{
		{},
		{"use_dora": true}, {"use_dora": false}, {"bias": "all"}, {"bias": "lora_only"}, {"bias": "none"}, {"lora_bias": true},
		{"modules_to_save": []string{"lm_head"}}, {"modules_to_save": []string{"score"}}, {"modules_to_save": []string{}},
		{"init_lora_weights": true}, {"init_lora_weights": false}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "Gaussian"},
		{"init_lora_weights": "olora"}, {"init_lora_weights": "eva"}, {"init_lora_weights": "loftq"}, {"init_lora_weights": "pissa_niter_4"},
		{"use_qalora": true}, {"use_bdlora": map[string]any{"nblocks": 2}}, {"use_rslora": true}, {"alora_invocation_tokens": []int{1}}, {"layer_replication": [][]int{{0, 4}}},
		{"rank_pattern": map[string]int{"q_proj": 16}}, {"r": 256},
	}
	given, err := json.Marshal(cases)
	require.NoError(t, err)
	ask := exec.CommandContext(t.Context(), *python, "-c", askPEFT)
	ask.Env, ask.Stdin = append(ask.Environ(), "VLLM_CONFIGURE_LOGGING=0"), strings.NewReader(string(given))
	out, err := ask.Output()
	require.NoError(t, err, string(out))
	var said []string
	require.NoError(t, json.Unmarshal(out, &said), string(out))
	c, err := catalog.Load()
	require.NoError(t, err)
	refused := 0
	for i, lora := range cases {
		text, err := yaml.Marshal(map[string]any{"LoraConfig": lora})
		require.NoError(t, err)
		_, err = plan.Make(plan.Request{
			Mode: plan.ModeTuning, Method: "lora", Preset: "phi-4", InstanceTypes: []string{"Standard_NC24ads_A100_v4"}, TrainingConfig: string(text),
		}, c, vllm.Engine{})
		if said[i] == "" {
			assert.NoError(t, err, "%v", lora)
			continue
		}
		refused++
		assert.Error(t, err, "%v: the engine: %s", lora, said[i])
	}
	t.Logf("%d settings, %d of them refused", len(cases), refused)
}
