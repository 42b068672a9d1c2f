// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"math"
	"regexp"

	"go.yaml.in/yaml/v3"
)

var (
	anyText   = regexp.MustCompile(`.`)
	idText    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)
	aliasText = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)
	hashText  = regexp.MustCompile(`^[0-9a-f]{40}$`)
	versText  = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	dateText  = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
	imageText = regexp.MustCompile(`^[a-z0-9.-]+(:\d+)?/[a-z0-9._/-]+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$`)
	nameText  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// maxWidth limits each dimension of a model, so that arithmetic does not overflow because of a typing error.
const maxWidth = 1 << 20

func decodeModel(d decoder, path string, n *yaml.Node) (Model, error) {
	m := Model{Dtype: "bfloat16", Attention: Attention{Kind: AttentionHeads}, Quant: Quant{Bits: 16}, MultiNode: true}
	var weightsGiB float64
	fullLayers := -1
	err := d.object(
		path,
		n,
		required("id", text(&m.ID, idText, "a HuggingFace ID, org/model")),
		optional("aliases", texts(&m.Aliases, aliasText, "lower-case letters, digits, dots and dashes")),
		optional("deprecated", flag(&m.Deprecated)),
		optional("revision", text(&m.Revision, hashText, "a commit, 40 hex digits")),
		optional("license", text(&m.License, anyText, "the licence's name")),
		optional("gated", flag(&m.Gated)),
		optional("image", text(&m.Image, imageText, "an OCI image reference")),
		required("architecture", text(&m.Architecture, nameText, "the class name in config.json")),
		required("weightsGiB", measure(&weightsGiB, 4096)),
		required("context", count(&m.Context, 1, 1<<24)),
		required("hidden", count(&m.Hidden, 1, maxWidth)),
		required("layers", count(&m.Layers, 1, 1024)),
		required("heads", count(&m.Heads, 1, 1024)),
		required("kvHeads", count(&m.KVHeads, 1, 1024)),
		optional("headDim", count(&m.HeadDim, 1, 1024)),
		optional("moe", flag(&m.MoE)),
		optional("dtype", oneOf(&m.Dtype, "bfloat16", "float16")),
		optional("noFloat16", flag(&m.NoFloat16)),
		optional("noLoRA", flag(&m.NoLoRA)),
		optional("multiNode", flag(&m.MultiNode)),
		optional("minEngine", text(&m.MinEngine, versText, "a version, MAJOR.MINOR.PATCH")),
		optional("minCapability", capability(&m.MinCapability)),
		optional("attention", func(d decoder, path string, n *yaml.Node) error {
			return decodeAttention(d, path, n, &m.Attention, &fullLayers)
		}),
		optional("quant", func(d decoder, path string, n *yaml.Node) error {
			return d.object(path, n,
				required("method", text(&m.Quant.Method, nameText, "the engine's name of a method")),
				required("bits", count(&m.Quant.Bits, 2, 8)),
			)
		}),
		optional("tuning", func(d decoder, path string, n *yaml.Node) error {
			m.Tuning = &Tuning{GatedMLP: true}
			return decodeTuning(d, path, n, m.Tuning)
		}),
		optional(
			"engine", func(d decoder, path string, n *yaml.Node) error { return decodeModelEngine(d, path, n, &m.Engine) },
		),
	)
	if err != nil {
		return m, err
	}
	m.WeightsBytes = int64(math.Round(weightsGiB * (1 << 30)))
	if fullLayers < 0 {
		fullLayers = m.Layers - m.Attention.SlidingLayers
	}
	m.Attention.FullLayers = fullLayers
	if m.HeadDim == 0 {
		m.HeadDim = m.Hidden / m.Heads
	}
	return m, checkModel(d, path, n, m)
}

func decodeAttention(d decoder, path string, n *yaml.Node, a *Attention, fullLayers *int) error {
	return d.object(path, n,
		optional("kind", oneOf(&a.Kind, AttentionHeads, AttentionMLA)),
		optional("fullLayers", count(fullLayers, 0, 1024)),
		optional("slidingLayers", count(&a.SlidingLayers, 0, 1024)),
		optional("window", count(&a.Window, 1, 1<<24)),
		optional("loraRank", count(&a.LoraRank, 1, maxWidth)),
		optional("ropeDim", count(&a.RopeDim, 1, maxWidth)),
		optional("indexerBytes", count(&a.IndexerBytes, 1, maxWidth)),
		optional("stateBytes", count(&a.StateBytes, 1, 1<<40)),
		optional("kvDtype", oneOf(&a.KVDtype, "fp8")),
	)
}

func decodeTuning(d decoder, path string, n *yaml.Node, t *Tuning) error {
	return d.object(path, n,
		required("intermediate", count(&t.Intermediate, 1, maxWidth)),
		required("vocab", count(&t.Vocab, 1, maxWidth)),
		optional("gatedMLP", flag(&t.GatedMLP)),
		optional("tiedEmbeddings", flag(&t.TiedEmbeddings)),
	)
}

func decodeModelEngine(d decoder, path string, n *yaml.Node, e *ModelEngine) error {
	return d.object(path, n,
		optional("toolCallParser", text(&e.ToolCallParser, nameText, "the engine's name of a parser")),
		optional("reasoningParser", text(&e.ReasoningParser, nameText, "the engine's name of a parser")),
		optional("chatTemplate", text(&e.ChatTemplate, nameText, "a template's name")),
		optional("noChatTemplate", flag(&e.NoChatTemplate)),
		optional("loadFormat", oneOf(&e.LoadFormat, "mistral")),
		optional("tokenizerMode", text(&e.TokenizerMode, nameText, "the engine's name of a tokenizer mode")),
		optional("trustRemoteCode", flag(&e.TrustRemoteCode)),
		optional("expertParallel", flag(&e.ExpertParallel)),
		optional("extra", stringMap(&e.Extra)),
	)
}

// checkModel checks the constraints between fields.
func checkModel(d decoder, path string, n *yaml.Node, m Model) error {
	a := m.Attention
	refuse := func(field, value, allowed string) error {
		return d.errorf(
			join(path, field), &yaml.Node{Kind: yaml.ScalarNode, Line: n.Line, Value: value}, allowed+" (model "+m.ID+")",
		)
	}
	switch {
	case m.HeadDim == 0:
		return refuse("headDim", "0", "hidden / heads, or its own value")
	case a.Kind == AttentionMLA && (a.LoraRank == 0 || a.RopeDim == 0):
		return refuse("attention", AttentionMLA, "mla with loraRank and ropeDim")
	case a.SlidingLayers > 0 && a.Window == 0:
		return refuse("attention.window", "missing", "a value, because the model has sliding layers")
	case a.FullLayers+a.SlidingLayers > m.Layers || a.FullLayers < 0:
		return refuse(
			"attention", fmt.Sprint(a.FullLayers+a.SlidingLayers), fmt.Sprintf("at most %d layers with a cache", m.Layers),
		)
	case a.FullLayers+a.SlidingLayers == 0:
		return refuse("attention", "0", "at least one layer with a cache")
	}
	return nil
}

func decodeSize(d decoder, path string, n *yaml.Node) (Size, error) {
	s := Size{Utilization: DefaultUtilization}
	err := d.object(path, n,
		required("name", text(&s.Name, nameText, "a VM size")),
		optional("aliases", texts(&s.Aliases, nameText, "a VM size")),
		required("gpus", count(&s.GPUs, 1, 64)),
		required("gpu", text(&s.GPUModel, nameText, "a GPU model")),
		required("memoryGiB", measure(&s.MemoryGiB, 1024)),
		required("deviceGiB", measure(&s.DeviceGiB, 1024)),
		required("capability", capability(&s.Capability)),
		required("vcpus", count(&s.VCPUs, 1, 4096)),
		required("ramGiB", count(&s.RAMGiB, 1, 65536)),
		optional("nvme", flag(&s.LocalNVMe)),
		required("quotaFamily", text(&s.QuotaFamily, anyText, "Azure's name of the quota")),
		optional("utilization", measure(&s.Utilization, 1)),
		optional("retired", text(&s.Retired, dateText, "a day, YYYY-MM-DD")),
		optional("replacedBy", text(&s.ReplacedBy, nameText, "a VM size")),
		optional("needs", text(&s.Needs, anyText, "what its nodes need")),
	)
	s.PhysicalGPUs = s.GPUs
	return s, err
}

// DefaultUtilization is the fraction of a GPU's memory that an engine may use: the default of vLLM.
const DefaultUtilization = 0.90

func decodeMIG(d decoder, path string, n *yaml.Node) (migTable, error) {
	var t migTable
	err := d.object(path, n,
		required("gpu", text(&t.gpuModel, nameText, "a GPU model")),
		required("memoryGiB", measure(&t.memoryGiB, 1024)),
		required("profiles", list(func(d decoder, path string, n *yaml.Node) error {
			var p MIGProfile
			err := d.object(path, n,
				required("name", text(&p.Name, regexp.MustCompile(`^[1-7]g\.\d+gb$`), "a MIG profile, for example 1g.10gb")),
				required("instances", count(&p.Instances, 1, 7)),
				required("slices", count(&p.Slices, 1, 8)),
			)
			t.profiles = append(t.profiles, p)
			return err
		})),
	)
	return t, err
}

func decodeEngine(d decoder, path string, n *yaml.Node) (Engine, error) {
	var e Engine
	err := d.object(path, n,
		required("name", oneOf(&e.Name, "vllm")),
		required("version", text(&e.Version, versText, "a version, MAJOR.MINOR.PATCH")),
		required("image", text(&e.Image, imageText, "an OCI image reference")),
		required("minCapability", capability(&e.MinCapability)),
		optional("maxCapability", capability(&e.MaxCapability)),
		required("dtypes", texts(&e.Dtypes, regexp.MustCompile(`^(bfloat16|float16)$`), "bfloat16, float16")),
		optional("env", stringMap(&e.Env)),
		optional("templateDir", text(&e.TemplateDir, regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`), "an absolute path")),
		optional("dataParallel", flag(&e.DataParallel)),
		optional("multiNode", flag(&e.MultiNode)),
		optional("hybridCache", flag(&e.HybridCache)),
	)
	return e, err
}

func decodeQuantization(d decoder, path string, n *yaml.Node) (Quantization, error) {
	var q Quantization
	err := d.object(path, n,
		required("method", text(&q.Method, regexp.MustCompile(`^[a-z0-9_-]+$`), "the engine's name of a method, lower case")),
		required("bits", count(&q.Bits, 2, 16)),
		required("minCapability", capability(&q.MinCapability)),
		optional("inFlight", flag(&q.InFlight)),
	)
	return q, err
}
