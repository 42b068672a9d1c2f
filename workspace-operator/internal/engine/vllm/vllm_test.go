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
		"vllm: {max-model-len: 1.5}":        `vllm.max-model-len: is "1.5"; allowed: a whole number of tokens`,
		"vllm: {max-model-len: 1e99}":       "vllm.max-model-len: is",
		"vllm: {gpu_memory_utilization: 1}": `vllm.gpu_memory_utilization: is "1"; allowed: more than 0.1, at most 0.98`,
		"vllm: {kv-cache-dtype: int4}":      `vllm.kv-cache-dtype: is "int4"; allowed: auto, fp8`,
		"vllm: {port: 1}":                   "vllm.port: may not be set: the engine is reached through the gateway only; remove the key",
		"vllm: [a]":                         "vllm: is []interface {}; allowed: a map of the engine's flags",
		"vllm: {a: 1, a: 2}":                "document: invalid YAML",
		"tgi: {}":                           "tgi: no such section; allowed: vllm",
		"[]":                                "document: invalid YAML",
	} {
		_, err := vllm.Engine{}.ReadConfig(text)
		var wrong *configfile.Error
		require.ErrorAs(t, err, &wrong, text)
		assert.Equal(t, engine.ConfigFile, wrong.File, text)
		assert.Contains(t, err.Error(), want, text)
	}
}

func TestTheUsersFlagReplacesTheCataloguesInEitherForm(t *testing.T) {
	t.Parallel()
	m := catalog.Model{Engine: catalog.ModelEngine{Extra: map[string]string{"enable-x": "true", "no-yarn": "", "size": "7"}}}
	for text, want := range map[string]map[string]string{
		"":                            {"enable-x": "", "no-yarn": "", "size": "7"},
		"vllm: {enable-x: false}":     {"no-enable-x": "", "no-yarn": "", "size": "7"},
		"vllm: {size: 8, yarn: true}": {"enable-x": "", "yarn": "", "size": "8"},
	} {
		config, err := vllm.Engine{}.ReadConfig(text)
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

func TestARankIsOneThatTheParserAccepts(t *testing.T) {
	t.Parallel()
	for want, rank := range map[int]int{1: 16, 8: 16, 16: 16, 17: 32, 65: 128, 321: 512, 513: 513} {
		assert.Equal(t, rank, vllm.Engine{}.LoraRank(want))
	}
}
