// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"kaito.sh/workspace-operator/internal/engine"
)

// Flags returns what follows from the plan and the catalogue; the user's other flags replace the catalogue's.
func (Engine) Flags(s engine.Settings) map[string]string {
	out := map[string]string{
		"max-model-len":          strconv.Itoa(s.MaxModelLen),
		"gpu-memory-utilization": strconv.FormatFloat(s.Utilization, 'f', -1, 64),
		"dtype":                  s.Dtype,
		"tensor-parallel-size":   strconv.Itoa(s.TensorParallel),
		"pipeline-parallel-size": strconv.Itoa(s.PipelineParallel),
		"data-parallel-size":     strconv.Itoa(s.DataParallel),
	}
	// How published weights are stored the engine reads from the model's own config, and finds the fastest kernel for it.
	set(out, "quantization", s.Quantization)
	if kv := s.KVDtype; kv != "bfloat16" && kv != "float16" {
		set(out, "kv-cache-dtype", kv)
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
func modelFlags(out map[string]string, s engine.Settings) {
	m := s.Model.Engine
	set(out, "tool-call-parser", m.ToolCallParser)
	if m.ToolCallParser != "" {
		out["enable-auto-tool-choice"] = ""
	}
	set(out, "reasoning-parser", m.ReasoningParser)
	if m.ChatTemplate != "" {
		// vLLM's examples/ has its templates under these names.
		name := "tool_chat_template_" + strings.ReplaceAll(m.ChatTemplate, "-", "_") + ".jinja"
		out["chat-template"] = s.Release.TemplateDir + "/" + name
	}
	mode := m.TokenizerMode
	if m.LoadFormat == "mistral" {
		out["load-format"], out["config-format"], mode = "mistral", "mistral", "mistral"
	}
	if known := s.Release.TokenizerModes; len(known) == 0 || slices.Contains(known, mode) {
		set(out, "tokenizer-mode", mode)
	}
	if m.TrustRemoteCode {
		out["trust-remote-code"] = ""
	}
	// Copies of a mixture of experts share the experts: whole ones, whose width need not divide.
	if s.Model.MoE && s.TensorParallel*s.DataParallel > 1 && (m.ExpertParallel || s.DataParallel > 1) {
		out["enable-expert-parallel"] = ""
	}
	for flag, value := range m.Extra {
		on, err := strconv.ParseBool(value)
		switchFlag(out, flag, value, err == nil, on)
	}
}

func set(out map[string]string, flag, value string) {
	if value != "" {
		out[flag] = value
	}
}

// plainSwitches have no opposite form: what is off is left out (store_true in vLLM 0.32.0's EngineArgs).
var plainSwitches = []string{
	"aggregate-engine-logging",
	"data-parallel-multi-port-external-lb",
	"disable-log-stats",
	"grpc",
}

// switchFlag puts a flag as vLLM's parser takes it: a switch that is on has no value, one that is off is --no-flag.
func switchFlag(out map[string]string, flag, value string, isSwitch, on bool) {
	switch {
	case !isSwitch:
		out[flag] = value
	case on:
		out[flag] = ""
	case !slices.Contains(plainSwitches, flag):
		out["no-"+flag] = ""
	}
}
