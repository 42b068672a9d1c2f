// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// ConfigError says that a config.json is not sufficient for a plan.
type ConfigError struct {
	ID, Field, Value, Allowed string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf(
		"config.json of %s: %s: invalid value %q, allowed: %s; serve the model with inference.template, or add it to the catalogue", e.ID,
		e.Field, e.Value, e.Allowed,
	)
}

// hubConfig has the fields of config.json that memory and parallelism depend on. Multimodal models have the fields of
// their language model in text_config or llm_config.
type hubConfig struct {
	Architectures []string   `json:"architectures"`
	TextConfig    *hubConfig `json:"text_config"`
	LLMConfig     *hubConfig `json:"llm_config"`

	Hidden       int    `json:"hidden_size"`
	Layers       int    `json:"num_hidden_layers"`
	Heads        int    `json:"num_attention_heads"`
	KVHeads      int    `json:"num_key_value_heads"`
	HeadDim      int    `json:"head_dim"`
	Context      int    `json:"max_position_embeddings"`
	Intermediate int    `json:"intermediate_size"`
	Vocab        int    `json:"vocab_size"`
	Tied         bool   `json:"tie_word_embeddings"`
	Dtype        string `json:"dtype"`
	TorchDtype   string `json:"torch_dtype"` // older name of dtype

	LoraRank      int      `json:"kv_lora_rank"`
	RopeDim       int      `json:"qk_rope_head_dim"`
	IndexHeadDim  int      `json:"index_head_dim"`
	Window        int      `json:"sliding_window"`
	LayerTypes    []string `json:"layer_types"`
	FullInterval  int      `json:"full_attention_interval"`
	HybridPattern string   `json:"hybrid_override_pattern"`

	LinearValueHeads int `json:"linear_num_value_heads"`
	LinearKeyDim     int `json:"linear_key_head_dim"`
	LinearValueDim   int `json:"linear_value_head_dim"`
	MambaHeads       int `json:"mamba_num_heads"`
	MambaHeadDim     int `json:"mamba_head_dim"`
	SSMState         int `json:"ssm_state_size"`

	LocalExperts  int `json:"num_local_experts"`
	Experts       int `json:"num_experts"`
	RoutedExperts int `json:"n_routed_experts"`

	Quantization *hubQuantization `json:"quantization_config"`
}

type hubQuantization struct {
	Method string `json:"quant_method"`
	Format string `json:"format"`     // of compressed-tensors
	Algo   string `json:"quant_algo"` // of modelopt
}

// ModelFromConfig returns a model that the catalogue does not have, from its config.json at a commit and the size of
// its safetensors in bytes. Facts that are not published (whether it overflows in float16, which engine supports it)
// are those of catalogue models of the same architecture. The error is a *ConfigError.
func (c *Catalog) ModelFromConfig(id, revision string, config []byte, weightsBytes int64) (Model, error) {
	var top hubConfig
	if err := json.Unmarshal(config, &top); err != nil {
		return Model{}, &ConfigError{ID: id, Field: "document", Value: err.Error(), Allowed: "JSON"}
	}
	text := top
	for _, inner := range []*hubConfig{top.TextConfig, top.LLMConfig} {
		if inner != nil {
			text = *inner
		}
	}
	m := Model{
		ID:           id,
		Revision:     revision,
		WeightsBytes: weightsBytes,
		Dtype:        "bfloat16",
		MultiNode:    true,
		Context:      text.Context,
		Hidden:       text.Hidden,
		Layers:       text.Layers,
		Heads:        text.Heads,
		KVHeads:      text.KVHeads,
		HeadDim:      text.HeadDim,
		MoE:          text.LocalExperts+text.Experts+text.RoutedExperts > 0,
		Quant:        Quant{Bits: 16},
	}
	if len(top.Architectures) > 0 {
		m.Architecture = top.Architectures[0]
	}
	if m.KVHeads == 0 {
		m.KVHeads = m.Heads
	}
	if m.HeadDim == 0 && m.Heads > 0 {
		m.HeadDim = m.Hidden / m.Heads
	}
	if text.Dtype == "float16" || text.TorchDtype == "float16" || top.TorchDtype == "float16" {
		m.Dtype = "float16"
	}
	m.Attention = text.attention()
	if err := m.checkFigures(); err != nil {
		return Model{}, err
	}
	quantization := top.Quantization
	if quantization == nil {
		quantization = text.Quantization
	}
	if err := c.quantize(&m, quantization); err != nil {
		return Model{}, err
	}
	c.inherit(&m)
	if !m.MoE && m.Quant.Method == "" && m.Attention.Kind == AttentionHeads && text.Intermediate > 0 && text.Vocab > 0 &&
		m.Attention.FullLayers+m.Attention.SlidingLayers == m.Layers {
		m.Tuning = &Tuning{Intermediate: text.Intermediate, Vocab: text.Vocab, GatedMLP: true, TiedEmbeddings: text.Tied}
	}
	return m, nil
}

// attention counts the layers by the kind of their cache.
func (t hubConfig) attention() Attention {
	a := Attention{Kind: AttentionHeads, FullLayers: t.Layers}
	if t.LoraRank > 0 {
		a.Kind, a.LoraRank, a.RopeDim = AttentionMLA, t.LoraRank, t.RopeDim
	}
	if t.IndexHeadDim > 0 {
		a.IndexerBytes = t.IndexHeadDim + 4 // eight bits per element, and a scale
	}
	linear, mamba := 0, 0
	switch {
	case len(t.LayerTypes) > 0:
		a.FullLayers = 0
		for _, kind := range t.LayerTypes {
			switch {
			case strings.Contains(kind, "sliding") && t.Window > 0:
				a.SlidingLayers++
			case kind == "linear_attention":
				linear++
			case kind == "mamba":
				mamba++
			default:
				a.FullLayers++
			}
		}
	case t.HybridPattern != "":
		a.FullLayers, mamba = strings.Count(t.HybridPattern, "*"), strings.Count(t.HybridPattern, "M")
	case t.FullInterval > 1:
		a.FullLayers = t.Layers / t.FullInterval
		linear = t.Layers - a.FullLayers
	}
	if a.SlidingLayers > 0 {
		a.Window = t.Window
	}
	// Both kinds of state have 32 bits.
	a.StateBytes = 4 * (int64(linear)*int64(t.LinearValueHeads)*int64(t.LinearKeyDim)*int64(t.LinearValueDim) +
		int64(mamba)*int64(t.MambaHeads)*int64(t.MambaHeadDim)*int64(t.SSMState))
	return a
}

func (m Model) checkFigures() error {
	refuse := func(field string, value any, allowed string) error {
		return &ConfigError{ID: m.ID, Field: field, Value: fmt.Sprint(value), Allowed: allowed}
	}
	if m.Architecture == "" {
		return refuse("architectures", "", "the name of a class")
	}
	if m.WeightsBytes <= 0 || m.WeightsBytes > 4<<40 {
		return refuse("safetensors", m.WeightsBytes, "from 1 byte to 4 TiB: models in other formats cannot be planned")
	}
	for _, f := range []struct {
		name  string
		value int
		most  int
	}{
		{"hidden_size", m.Hidden, maxWidth}, {"num_hidden_layers", m.Layers, 1024}, {"num_attention_heads", m.Heads, 1024},
		{"num_key_value_heads", m.KVHeads, 1024}, {"head_dim", m.HeadDim, 1024},
		{"max_position_embeddings", m.Context, 1 << 24},
	} {
		if f.value < 1 || f.value > f.most {
			return refuse(f.name, f.value, fmt.Sprintf("a whole number from 1 to %d", f.most))
		}
	}
	a := m.Attention
	cached := a.FullLayers + a.SlidingLayers
	switch {
	case cached < 1 || cached > m.Layers:
		return refuse("layer_types", cached, fmt.Sprintf("from 1 to %d layers with a cache", m.Layers))
	case a.Kind == AttentionMLA && (a.LoraRank > maxWidth || a.RopeDim < 1 || a.RopeDim > maxWidth):
		return refuse("qk_rope_head_dim", a.RopeDim, "a whole number, at least 1")
	case a.IndexerBytes > maxWidth || a.Window > 1<<24 || a.StateBytes < 0 || a.StateBytes > 1<<40:
		return refuse("layer_types", a.StateBytes, "states and windows that fit a GPU")
	}
	return nil
}

// quantize sets the quantization method, with its name in the catalogue.
func (c *Catalog) quantize(m *Model, q *hubQuantization) error {
	if q == nil || q.Method == "" {
		return nil
	}
	method := strings.ToLower(q.Method)
	algo := strings.ToUpper(q.Algo)
	switch {
	case method == "compressed-tensors" && q.Format != "":
		method = strings.ToLower(q.Format)
	case method == "modelopt" && strings.Contains(algo, "MIXED"):
		method = "mixed-precision"
	case method == "modelopt" && strings.Contains(algo, "NVFP4"):
		method = "nvfp4-pack-quantized"
	case method == "modelopt" && strings.Contains(algo, "FP8"):
		method = "float-quantized"
	}
	known, found := c.Quantization(method)
	if !found {
		var allowed []string
		for name := range c.quantizations {
			allowed = append(allowed, name)
		}
		sort.Strings(allowed)
		return &ConfigError{
			ID:      m.ID,
			Field:   "quantization_config.quant_method",
			Value:   method,
			Allowed: strings.Join(allowed, ", "),
		}
	}
	m.Quant = Quant{Method: known.Method, Bits: known.Bits}
	return nil
}

// firstUnified is the first release with a single engine. It is the minimum for an architecture that no model of the
// catalogue has.
const firstUnified = "0.11.0"

// inherit copies the facts about the architecture from a catalogue model of the same architecture.
func (c *Catalog) inherit(m *Model) {
	m.MinEngine = firstUnified
	for _, known := range c.Models() {
		if known.Architecture != m.Architecture {
			continue
		}
		m.MinEngine, m.NoFloat16, m.NoLoRA, m.MultiNode = known.MinEngine, known.NoFloat16, known.NoLoRA, known.MultiNode
		m.Attention.KVDtype, m.MinCapability = known.Attention.KVDtype, known.MinCapability
		if m.Quant.Method == known.Quant.Method {
			m.Engine.ExpertParallel = known.Engine.ExpertParallel
		}
		return
	}
}
