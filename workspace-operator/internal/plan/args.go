// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"kaito.sh/shared/catalog"
)

// imageGiB is what the engine's image and the system's own need of the node's disk, unpacked.
const imageGiB = 60

// disk is what image and weights need, the weights twice while an image of them is unpacked.
func (q *question) disk() int {
	weights := float64(q.model.WeightsBytes) / GiB
	return imageGiB + int(math.Ceil(weights*2))
}

// args are the engine's flags that follow from the plan and the catalogue; the user's others come on top.
func (q *question) args(p *Plan) map[string]string {
	if q.request.Mode != ModeInference {
		return nil
	}
	out := map[string]string{
		"max-model-len":          strconv.Itoa(p.MaxModelLen),
		"gpu-memory-utilization": strconv.FormatFloat(q.utilization(p.Size), 'f', -1, 64),
		"dtype":                  p.Dtype,
		"tensor-parallel-size":   strconv.Itoa(p.TensorParallel),
		"pipeline-parallel-size": strconv.Itoa(p.PipelineParallel),
		"data-parallel-size":     strconv.Itoa(p.DataParallel),
	}
	set := func(flag, value string) {
		if value != "" {
			out[flag] = value
		}
	}
	e := q.model.Engine
	set("tool-call-parser", e.ToolCallParser)
	if e.ToolCallParser != "" {
		out["enable-auto-tool-choice"] = ""
	}
	set("reasoning-parser", e.ReasoningParser)
	if e.ChatTemplate != "" {
		// vLLM's examples/ has its templates under these names.
		out["chat-template"] = p.Engine.TemplateDir + "/tool_chat_template_" + strings.ReplaceAll(
			e.ChatTemplate, "-", "_",
		) + ".jinja"
	}
	mode := e.TokenizerMode
	if e.LoadFormat == "mistral" {
		out["load-format"], out["config-format"], mode = "mistral", "mistral", "mistral"
	}
	if known := p.Engine.TokenizerModes; len(known) == 0 || slices.Contains(known, mode) {
		set("tokenizer-mode", mode)
	}
	if e.TrustRemoteCode {
		out["trust-remote-code"] = ""
	}
	// Copies of a mixture of experts share the experts: whole ones, whose width need not divide.
	if q.model.MoE && p.TensorParallel*p.DataParallel > 1 && (e.ExpertParallel || p.DataParallel > 1) {
		out["enable-expert-parallel"] = ""
	}
	// How published weights are stored the engine reads from the model's own config, and finds the fastest kernel for it.
	set("quantization", p.Quantization)
	kv := q.model.Attention.KVDtype
	if q.inference.kvDtype != "" {
		kv = q.inference.kvDtype
	}
	if kv != "" && kv != "bfloat16" && kv != "float16" {
		out["kv-cache-dtype"] = kv
	}
	for flag, value := range e.Extra {
		on, err := strconv.ParseBool(value)
		switchFlag(out, flag, value, err == nil, on)
	}
	for flag := range q.inference.passed {
		// The user's word replaces the catalogue's, in whichever form.
		delete(out, strings.TrimPrefix(flag, "no-"))
		delete(out, "no-"+flag)
	}
	maps.Copy(out, q.inference.passed)
	return out
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

func (q *question) utilization(s catalog.Size) float64 {
	if q.inference.utilization > 0 {
		return q.inference.utilization
	}
	return s.Utilization
}

// String is the terms as JSON in GiB, for logs and goldens.
func (t Terms) String() string {
	round := func(bytes float64) float64 { return math.Round(bytes/GiB*100) / 100 }
	text, err := json.Marshal(map[string]float64{
		"weights": round(t.Weights), "kvCache": round(t.KVCache), "activations": round(t.Activations),
		"overhead": round(t.Overhead), "free": round(t.Free), "usable": round(t.Usable),
	})
	if err != nil {
		return err.Error() // finite numbers always marshal
	}
	return string(text)
}
