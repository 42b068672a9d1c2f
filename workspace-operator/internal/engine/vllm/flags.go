// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"maps"
	"strconv"
	"strings"

	"kaito.sh/workspace-operator/internal/engine"
)

// Flags returns what follows from the plan and the catalogue; the user's other flags replace the catalogue's.
func (Engine) Flags(s engine.Settings) engine.Flags {
	out := engine.Flags{
		"max-model-len":          {strconv.Itoa(s.MaxModelLen)},
		"gpu-memory-utilization": {strconv.FormatFloat(s.Utilization, 'f', -1, 64)},
		"dtype":                  {s.Dtype},
		"tensor-parallel-size":   {strconv.Itoa(s.TensorParallel)},
		"pipeline-parallel-size": {strconv.Itoa(s.PipelineParallel)},
		"data-parallel-size":     {strconv.Itoa(s.DataParallel)},
	}
	// How published weights are stored the engine reads from the model's own config, and finds the fastest kernel for it.
	out.Set("quantization", s.Quantization)
	if kv := s.KVDtype; kv != "bfloat16" && kv != "float16" {
		out.Set("kv-cache-dtype", kv)
	}
	modelFlags(out, s)
	for flag := range s.Config.Passed {
		// The user's word replaces the catalogue's, in whichever form.
		delete(out, strings.TrimPrefix(flag, "no-"))
		delete(out, "no-"+flag)
	}
	maps.Copy(out, s.Config.Passed)
	return out
}

// modelFlags adds what the catalogue says of the model.
func modelFlags(out engine.Flags, s engine.Settings) {
	m := s.Model.Engine
	if parser := m.ToolCallParser; parser != "" && hasParser(s.Release, "tool-call-parser", parser) {
		out.Set("tool-call-parser", parser)
		out["enable-auto-tool-choice"] = nil
	}
	if hasParser(s.Release, "reasoning-parser", m.ReasoningParser) {
		out.Set("reasoning-parser", m.ReasoningParser)
	}
	if m.ChatTemplate != "" {
		out.Set("chat-template", s.Release.TemplateDir+"/"+templateFile(m.ChatTemplate))
	}
	mode := m.TokenizerMode
	if m.LoadFormat == "mistral" {
		out.Set("load-format", "mistral")
		out.Set("config-format", "mistral")
		mode = "mistral"
	}
	out.Set("tokenizer-mode", mode)
	if m.TrustRemoteCode {
		out["trust-remote-code"] = nil
	}
	// Copies of a mixture of experts share the experts: whole ones, whose width need not divide.
	if s.Model.MoE && s.TensorParallel*s.DataParallel > 1 && (m.ExpertParallel || s.DataParallel > 1) {
		out["enable-expert-parallel"] = nil
	}
	for flag, value := range m.Extra {
		switch on, err := strconv.ParseBool(value); {
		case value == "":
			out[flag] = nil
		case err != nil:
			out[flag] = []string{value}
		case on:
			out[flag] = nil
		default:
			out["no-"+flag] = nil
		}
	}
}
