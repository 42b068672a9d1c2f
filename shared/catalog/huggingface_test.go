// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
)

// Extracts of published config.json files, to be read into the same figures as the catalogue's.
var published = map[string]string{
	"microsoft/Phi-3-mini-128k-instruct": `{"architectures": ["Phi3ForCausalLM"], "hidden_size": 3072, "intermediate_size": 8192,
		"max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
		"tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32064, "sliding_window": 262144}`,
	"deepseek-ai/DeepSeek-V3-0324": `{"architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 7168, "intermediate_size": 18432,
		"kv_lora_rank": 512, "qk_rope_head_dim": 64, "max_position_embeddings": 163840, "n_routed_experts": 256, "num_attention_heads": 128,
		"num_hidden_layers": 61, "num_key_value_heads": 128, "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"}}`,
	"openai/gpt-oss-20b": `{"architectures": ["GptOssForCausalLM"], "head_dim": 64, "hidden_size": 2880, "max_position_embeddings": 131072,
		"num_attention_heads": 64, "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32, "sliding_window": 128,
		"layer_types": ["sliding_attention","full_attention","sliding_attention","full_attention","sliding_attention","full_attention",
		"sliding_attention","full_attention","sliding_attention","full_attention","sliding_attention","full_attention","sliding_attention",
		"full_attention","sliding_attention","full_attention","sliding_attention","full_attention","sliding_attention","full_attention",
		"sliding_attention","full_attention","sliding_attention","full_attention"], "quantization_config": {"quant_method": "mxfp4"}}`,
	"Qwen/Qwen3.6-27B": `{"architectures": ["Qwen3_5ForConditionalGeneration"], "text_config": {"hidden_size": 5120, "num_attention_heads": 24,
		"num_key_value_heads": 4, "head_dim": 256, "num_hidden_layers": 64, "full_attention_interval": 4, "max_position_embeddings": 262144,
		"linear_num_value_heads": 48, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "dtype": "bfloat16"}}`,
	"nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": `{"architectures": ["NemotronHForCausalLM"], "hidden_size": 2688, "head_dim": 128,
		"num_attention_heads": 32, "num_key_value_heads": 2, "num_hidden_layers": 52, "max_position_embeddings": 262144, "n_routed_experts": 128,
		"hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "mamba_num_heads": 64, "mamba_head_dim": 64,
		"ssm_state_size": 128}`,
}

func TestPublishedConfigEqualsTheCatalogue(t *testing.T) {
	c := load(t)
	for id, config := range published {
		want, err := c.Model(id)
		require.NoError(t, err)
		got, err := c.ModelFromConfig(id, want.Revision, []byte(config), want.WeightsBytes)
		require.NoError(t, err, id)
		// Names, images and parsers are the catalogue's own knowledge.
		want.Aliases, want.Image, want.License, want.Engine = nil, "", "", got.Engine
		assert.Equal(t, want, got, id)
	}
}

func TestUnknownArchitectureNeedsALaterEngine(t *testing.T) {
	m, err := load(
		t,
	).ModelFromConfig("acme/new", "", []byte(`{"architectures": ["NewForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
		"num_attention_heads": 4, "max_position_embeddings": 2048, "torch_dtype": "float16"}`), 1<<20)
	require.NoError(t, err)
	assert.Equal(t, "0.11.0", m.MinEngine)
	assert.Equal(t, "float16", m.Dtype)
	assert.Equal(
		t, [2]int{4, 16}, [2]int{m.KVHeads, m.HeadDim},
		"every head keeps its own, and the hidden size is divided by the heads",
	)
	assert.Nil(t, m.Tuning, "no width is published")
}

func TestInsufficientConfigsAreRefused(t *testing.T) {
	c := load(t)
	const rest = `"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 2048`
	for field, config := range map[string]string{
		"document":                         `[`,
		"architectures":                    `{}`,
		"num_hidden_layers":                `{` + rest + `, "num_hidden_layers": -3}`,
		"quantization_config.quant_method": `{` + rest + `, "num_hidden_layers": 2, "quantization_config": {"quant_method": "gguf"}}`,
		"layer_types":                      `{` + rest + `, "num_hidden_layers": 2, "layer_types": ["linear_attention", "linear_attention"]}`,
		"qk_rope_head_dim":                 `{` + rest + `, "num_hidden_layers": 2, "kv_lora_rank": 8}`,
	} {
		_, err := c.ModelFromConfig("acme/broken", "", []byte(config), 1<<20)
		var refused *catalog.ConfigError
		require.ErrorAs(t, err, &refused, field)
		assert.Equal(t, field, refused.Field, err)
	}
	_, err := c.ModelFromConfig("acme/gguf", "", []byte(fmt.Sprintf(`{%s, "num_hidden_layers": 2}`, rest)), 0)
	var refused *catalog.ConfigError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "safetensors", refused.Field)
}

func FuzzModelFromConfigNeverPanics(f *testing.F) {
	c, err := catalog.Load()
	require.NoError(f, err)
	for _, config := range published {
		f.Add([]byte(config))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		if _, err := c.ModelFromConfig("a/b", "", config, 1<<30); err != nil {
			var refused *catalog.ConfigError
			require.ErrorAs(t, err, &refused)
		}
	})
}
