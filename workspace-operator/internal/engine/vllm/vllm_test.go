// SPDX-License-Identifier: Apache-2.0

package vllm_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/configfile"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/engine/vllm"
)

func TestWrongConfigurationNamesFileKeyAndValue(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"vllm: {max-model-len: 1.5}":                 `vllm.max-model-len: is "1.5"; allowed: a whole number of tokens`,
		"vllm: {max-model-len: 0}":                   `vllm.max-model-len: is "0"; allowed: a whole number of tokens`,
		"vllm: {max-model-len: 1e99}":                "vllm.max-model-len: is",
		"vllm: {swap-space: 4}":                      "vllm.swap-space: vLLM 0.32.0 has no such flag any more: preempted requests are recomputed",
		"vllm: {max-num-sequences: 4}":               "did you mean max-num-seqs?",
		"vllm: {max-model-len: 1, max_model_len: 2}": "vllm.max_model_len: sets the same flag as max-model-len; remove one",
		"vllm: {runner: pooling}":                    "vllm.runner: may not be set: a preset generates text",
		"vllm: {grpc: true}":                         "vllm.grpc: may not be set",
		"vllm: {dtype: float32}":                     `vllm.dtype: is "float32"; allowed: auto, float16, bfloat16`,
		"vllm: {gpu_memory_utilization: NaN}":        `vllm.gpu_memory_utilization: is "NaN"; allowed: more than 0, at most 0.98`,
		"vllm: {gpu_memory_utilization: 1}":          `vllm.gpu_memory_utilization: is "1"; allowed: more than 0, at most 0.98`,
		"vllm: {kv-cache-dtype: int4}":               `vllm.kv-cache-dtype: is "int4"; allowed: auto, fp8`,
		"vllm: {port: 1}":                            "vllm.port: may not be set: the engine is reached through the gateway only; remove the key",
		"vllm: [a]":                                  "vllm: is []interface {}; allowed: a map of the engine's flags",
		"vllm: {a: 1, a: 2}":                         "document: invalid YAML",
		"tgi: {}":                                    "tgi: no such section; allowed: vllm",
		"[]":                                         "document: invalid YAML",
	} {
		_, err := vllm.Engine{}.ReadConfig(text, newest)
		var wrong *configfile.Error
		require.ErrorAs(t, err, &wrong, text)
		assert.Equal(t, engine.ConfigFile, wrong.File, text)
		assert.Contains(t, err.Error(), want, text)
	}
}

func TestTheUsersFlagReplacesTheCataloguesInEitherForm(t *testing.T) {
	t.Parallel()
	m := catalog.Model{Engine: catalog.ModelEngine{
		Extra: map[string]string{"enforce-eager": "true", "no-async-scheduling": "", "seed": "7"},
	}}
	for text, want := range map[string]engine.Flags{
		"":                             {"enforce-eager": nil, "no-async-scheduling": nil, "seed": {"7"}},
		"vllm: {enforce-eager: false}": {"no-enforce-eager": nil, "no-async-scheduling": nil, "seed": {"7"}},
		"vllm: {seed: 8, async-scheduling: true}": {"enforce-eager": nil, "async-scheduling": nil, "seed": {"8"}},
	} {
		config, err := vllm.Engine{}.ReadConfig(text, newest)
		require.NoError(t, err, text)
		flags := vllm.Engine{}.Flags(engine.Settings{Config: config, Model: m})
		for flag := range flags {
			if _, planned := (vllm.Engine{}.Flags(engine.Settings{}))[flag]; planned {
				delete(flags, flag)
			}
		}
		assert.Equal(t, want, flags, text)
	}
}

// newest is the release of the catalogue that serves most GPUs.
var newest = catalog.Engine{Name: "vllm", Version: "0.32.0"}

func TestARankIsOneThatTheParserAccepts(t *testing.T) {
	t.Parallel()
	for want, rank := range map[int]int{1: 16, 8: 16, 16: 16, 17: 32, 65: 128, 321: 512, 513: 513} {
		assert.Equal(t, rank, vllm.Engine{}.LoraRank(want))
	}
}
