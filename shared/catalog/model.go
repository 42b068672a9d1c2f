// SPDX-License-Identifier: Apache-2.0

package catalog

import "strings"

// Attention kinds, which differ in the cache that a token needs.
const (
	// AttentionHeads keeps a key and a value for every KV head: multi-head, grouped-query, multi-query.
	AttentionHeads = "heads"
	// AttentionMLA keeps one latent vector per token and layer, for any number of heads (multi-head latent attention).
	AttentionMLA = "mla"
)

// Model holds the facts about a model that a plan needs. Changes of the value do not change the catalogue.
type Model struct {
	ID         string   // HuggingFace ID, org/model
	Aliases    []string // short names, lower case
	Deprecated bool     // accepted, but no longer curated
	Revision   string   // commit of the figures; empty: not pinned
	License    string
	Gated      bool   // the download needs a token of an account that has accepted the licence
	Image      string // public OCI image with the weights; empty: none

	Architecture string
	WeightsBytes int64 // sum of the safetensors files
	Context      int   // longest context in tokens
	Hidden       int   // hidden size
	Layers       int   // all layers; pipeline stages are groups of layers
	Heads        int   // attention heads
	KVHeads      int
	HeadDim      int
	MoE          bool
	Dtype        string // published 16-bit type: bfloat16 or float16
	NoFloat16    bool   // overflows in float16 and needs a GPU with bfloat16
	NoLoRA       bool   // the engine cannot serve adapters on it
	MultiNode    bool   // the engine supports a pipeline across nodes
	MinEngine    string // first engine version with the architecture; empty: all
	// MinCapability is the lowest compute capability that the engine has an attention backend for; zero: the engine's own.
	MinCapability ComputeCapability

	Attention Attention
	Quant     Quant
	Tuning    *Tuning // nil: no figures, so that fine-tuning cannot be planned
	Engine    ModelEngine
}

// Attention describes the cache.
type Attention struct {
	Kind          string // AttentionHeads or AttentionMLA
	FullLayers    int    // layers whose cache grows with the context
	SlidingLayers int    // layers whose cache stops growing at Window
	Window        int    // tokens
	LoraRank      int    // MLA: rank of the latent
	RopeDim       int    // MLA: rotary part that is cached with the latent
	IndexerBytes  int    // sparse attention: bytes per token and layer of the index, which only a pipeline divides
	StateBytes    int64  // recurrent layers (Mamba, gated delta net): total bytes per sequence of any length
	KVDtype       string // type of the cache; empty: Dtype
}

// Quant describes the published weights.
type Quant struct {
	Method string // name of the method in the engine; empty: not quantized
	Bits   int    // of most weights; 16 if not quantized
}

// Tuning holds figures that the memory of LoRA depends on.
type Tuning struct {
	Intermediate   int // width of the feed-forward part
	Vocab          int
	GatedMLP       bool // three matrices (gate, up, down) instead of two
	TiedEmbeddings bool // the output head shares the weights of the embedding
}

// ModelEngine holds the engine's settings for a model, besides those of a plan.
type ModelEngine struct {
	ToolCallParser  string
	ReasoningParser string
	ChatTemplate    string // name of a template in the engine's image
	NoChatTemplate  bool   // a base model: it continues a text, and cannot be asked in messages
	LoadFormat      string // mistral: the publisher's format instead of HuggingFace's
	TokenizerMode   string
	TrustRemoteCode bool // runs Python of the model's repository; set only if the model needs it
	ExpertParallel  bool // distributes whole experts, because their width is not divisible
	Extra           map[string]string
}

// ShortName returns the first alias, or the last part of the ID in lower case.
func (m Model) ShortName() string {
	if len(m.Aliases) > 0 {
		return m.Aliases[0]
	}
	return strings.ToLower(m.ID[strings.LastIndex(m.ID, "/")+1:])
}

// Params returns the number of parameters, from the size and the bits of the weights.
func (m Model) Params() int64 {
	if m.Quant.Bits <= 0 {
		return m.WeightsBytes / 2
	}
	return m.WeightsBytes * 8 / int64(m.Quant.Bits)
}

func (m Model) clone() Model {
	m.Aliases = append([]string(nil), m.Aliases...)
	if m.Tuning != nil {
		t := *m.Tuning
		m.Tuning = &t
	}
	if m.Engine.Extra != nil {
		extra := make(map[string]string, len(m.Engine.Extra))
		for k, v := range m.Engine.Extra {
			extra[k] = v
		}
		m.Engine.Extra = extra
	}
	return m
}
