// SPDX-License-Identifier: Apache-2.0

package catalog

import "strings"

// Attention kinds that differ in what one token costs in the cache.
const (
	// AttentionHeads keeps a key and a value for every KV head: multi-head, grouped-query, multi-query.
	AttentionHeads = "heads"
	// AttentionMLA keeps one latent vector a token and layer (multi-head latent attention), whatever the heads.
	AttentionMLA = "mla"
)

// Model holds the facts about one model that a plan needs. It is a value: changing one changes no catalogue.
type Model struct {
	ID         string   // HuggingFace id, org/model, in its own spelling
	Aliases    []string // short names, lower case
	Deprecated bool     // accepted, but no longer curated
	Revision   string   // commit the figures were read at; empty: not pinned
	License    string
	Gated      bool   // the download needs a token of someone who accepted the licence
	Image      string // public OCI image that carries the weights; empty: there is none

	Architecture string
	WeightsBytes int64 // sum of the safetensors files
	Context      int   // longest context, tokens
	Hidden       int   // hidden size
	Layers       int   // all layers; a pipeline is cut between them
	Heads        int   // attention heads
	KVHeads      int
	HeadDim      int
	MoE          bool
	Dtype        string // 16-bit type the weights were published in: bfloat16 or float16
	NoFloat16    bool   // overflows in float16, so it needs a GPU with bfloat16
	NoLoRA       bool   // the engine cannot serve adapters on it
	MultiNode    bool   // the engine can cut it into a pipeline across nodes
	MinEngine    string // first engine version that knows the architecture; empty: all of the catalogue's

	Attention Attention
	Quant     Quant
	Tuning    *Tuning // nil: no figures, so fine-tuning it cannot be planned
	Engine    ModelEngine
}

// Attention says what the cache holds.
type Attention struct {
	Kind          string // AttentionHeads or AttentionMLA
	FullLayers    int    // layers whose cache grows with the context
	SlidingLayers int    // layers whose cache stops growing at Window
	Window        int    // tokens
	LoraRank      int    // MLA: rank of the latent
	RopeDim       int    // MLA: rotary part that is kept beside the latent
	IndexerBytes  int    // sparse attention: bytes a token and layer for the index, not divided by anything but the pipeline
	StateBytes    int64  // recurrent layers (Mamba, gated delta net): bytes for one sequence, over all of them, whatever its length
	KVDtype       string // what the engine must keep the cache in; empty: as Dtype
}

// Quant says how the published weights are stored.
type Quant struct {
	Method string // engine's name of the method; empty: not quantized
	Bits   int    // of most weights; 16 where not quantized
}

// Tuning has what LoRA arithmetic needs besides the shape of the model.
type Tuning struct {
	Intermediate   int // width of the feed-forward part
	Vocab          int
	GatedMLP       bool // three matrices (gate, up, down) instead of two
	TiedEmbeddings bool // the output head is the embedding: counted once
}

// ModelEngine is what the engine must be told about a model, besides what a plan decides.
type ModelEngine struct {
	ToolCallParser  string
	ReasoningParser string
	ChatTemplate    string // name of a template that the engine's image brings
	LoadFormat      string // mistral: the publisher's own files instead of HuggingFace's
	TokenizerMode   string
	TrustRemoteCode bool // runs Python from the model's repository: only where it cannot be loaded otherwise
	ExpertParallel  bool // experts are spread whole, because their width does not divide
	Extra           map[string]string
}

// ShortName is the first alias, or the id's last part in lower case.
func (m Model) ShortName() string {
	if len(m.Aliases) > 0 {
		return m.Aliases[0]
	}
	return strings.ToLower(m.ID[strings.LastIndex(m.ID, "/")+1:])
}

// Params is the number of parameters, from the size and the bits of the weights.
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
