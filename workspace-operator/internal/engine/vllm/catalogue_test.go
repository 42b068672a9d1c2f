// SPDX-License-Identifier: Apache-2.0

package vllm_test

import (
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/engineargs"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/engine/vllm"
)

// TestCatalogue: each release accepts the flags of each model that it serves, has the parsers that they name, and the
// chat templates in its image.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	checked := 0
	for _, release := range c.Engines() {
		table, err := engineargs.For(release.Version)
		require.NoError(t, err)
		for _, m := range c.Models() {
			if m.MinEngine != "" && !release.AtLeast(m.MinEngine) {
				continue
			}
			checked++
			flags := vllm.Engine{}.Flags(engine.Settings{
				Model: m, Release: release, MaxModelLen: 2048, Utilization: 0.9, Dtype: release.Dtypes[0],
				KVDtype: m.Attention.KVDtype, TensorParallel: 2, PipelineParallel: 1, DataParallel: 2,
			})
			what := release.Version + " " + m.ID
			_, err := table.Parse(flags.Words())
			assert.NoError(t, err, what)
			for _, flag := range []string{"tool-call-parser", "reasoning-parser"} {
				if name, given := flags[flag]; given {
					known, _ := table.Flag(flag)
					assert.Contains(t, known.Registered, name[0], "%s: %s", what, flag)
				}
			}
			if template, given := flags["chat-template"]; given {
				assert.Equal(t, release.TemplateDir, path.Dir(template[0]), what)
				assert.Contains(t, table.Templates, path.Base(template[0]), what)
			}
		}
	}
	assert.Greater(t, checked, 100)
}

func TestConfiguredNames(t *testing.T) {
	t.Parallel()
	release := newest
	release.TemplateDir = "/vllm-workspace/examples"
	for text, want := range map[string]string{
		"chat-template: /workspace/chat_templates/tool-chat-phi4-mini.jinja":      "/vllm-workspace/examples/tool_chat_template_phi4_mini.jinja",
		"chat-template: /workspace/chat_templates/tool-chat-llama3.1-json.jinja":  "/vllm-workspace/examples/tool_chat_template_llama3.1_json.jinja",
		"chat-template: /vllm-workspace/examples/tool_chat_template_hermes.jinja": "/vllm-workspace/examples/tool_chat_template_hermes.jinja",
		"chat-template: /mine/x.jinja":                                            "/mine/x.jinja",
	} {
		config, err := vllm.Engine{}.ReadConfig("vllm: {"+text+"}", release)
		require.NoError(t, err, text)
		assert.Equal(t, []string{want}, config.Passed["chat-template"], text)
	}
	for text, says := range map[string]string{
		"chat-template: /workspace/chat_templates/phi-4.jinja":                   "remove the key to use the model's own template",
		"chat-template: /vllm-workspace/examples/tool_chat_template_herme.jinja": "tool_chat_template_hermes.jinja",
		"tool-call-parser: hermess":                                              `vllm.tool-call-parser: is "hermess"; vLLM 0.32.0 has hermes`,
		"reasoning_parser: qwen-3":                                               "vllm.reasoning_parser: is \"qwen-3\"; vLLM 0.32.0 has qwen3",
	} {
		_, err := vllm.Engine{}.ReadConfig("vllm: {"+text+"}", release)
		assert.ErrorContains(t, err, says, text)
	}
	_, err := vllm.Engine{}.ReadConfig("vllm: {tool-call-parser: mine, tool-parser-plugin: /mine.py}", release)
	assert.NoError(t, err)
}
