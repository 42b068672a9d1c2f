// SPDX-License-Identifier: Apache-2.0

package engine

import "kaito.sh/shared/catalog"

// Engine translates between a Workspace and one inference engine. Its methods depend on their arguments only.
type Engine interface {
	// ReadConfig reads the text of inference_config.yaml, which may be empty, for a release. It refuses what that release
	// would refuse when it starts. The error is a *configfile.Error.
	ReadConfig(text string, release catalog.Engine) (Config, error)
	// Flags returns the flags that follow from a plan, the catalogue and the user's configuration.
	Flags(s Settings) Flags
	// Command returns how a container starts the engine.
	Command(s Server) Command
	// Ranked turns a command into that of each node of several. The kubelet expands $(NAME) in what it adds.
	Ranked(c Command, r Ranks) Command
	// LoraRank returns the smallest rank that the engine accepts and that covers an adapter of the wanted rank.
	LoraRank(want int) int
	// Figures are the engine's own in the arithmetic of memory.
	Figures() Figures
	// Shape is what a release needs for a model on a kind of GPU, as the engine counts it; nil where it was not asked.
	Shape(model catalog.Model, release catalog.Engine, gpu catalog.ComputeCapability) *Shape
	// CacheTypes are the types of KV cache, of auto and fp8, that a release accepts for a model on a kind of GPU. known is
	// false where the engine was not asked.
	CacheTypes(model catalog.Model, release catalog.Engine, gpu catalog.ComputeCapability) (types []string, known bool)
	// Batch is what the engine computes at once on a GPU unless the user's configuration says otherwise.
	Batch(size catalog.Size) Batch
	// LogTexts are what the engine writes when it fails.
	LogTexts() LogTexts
}

// MaxTokens is the largest number of tokens that a configuration may name.
const MaxTokens = 1 << 24

// Settings are what a plan decided.
type Settings struct {
	Config Config
	Model  catalog.Model
	// Release is the catalogue's entry of the engine that serves the GPU.
	Release catalog.Engine
	// MaxModelLen is the longest context, in tokens.
	MaxModelLen int
	// Utilization is the share of GPU memory that the engine may use, from 0 to 1.
	Utilization float64
	Dtype       string
	// KVDtype is the type of the KV cache's elements; empty: as Dtype.
	KVDtype string
	// Quantization that the engine applies while loading; empty: as published.
	Quantization string
	// TensorParallel GPUs share each layer, PipelineParallel stages share the layers, DataParallel copies answer.
	TensorParallel, PipelineParallel, DataParallel int
}

// Batch is what an engine computes at once.
type Batch struct {
	// Tokens of a step, at most.
	Tokens int
}

// Figures are an engine's own in the arithmetic of memory.
type Figures struct {
	// WeightsFactor is what weights need in memory, in parts of their files.
	WeightsFactor float64
	// ActivationBase, in bytes, and ActivationShare, in parts of the weights, add up to the peak of activations.
	ActivationBase, ActivationShare float64
	// WindowTokens is how many tokens past its window a layer keeps in the cache until they are settled.
	WindowTokens int
	// BlockTokens is how many tokens a block of the cache has; a sequence takes whole ones, and one block is always empty.
	BlockTokens int
	// SpareShare of the usable memory stays free, since the other figures are not exact to the byte.
	SpareShare float64
	// VocabularyMultiple is what the vocabulary is padded to, and then divided among the GPUs.
	VocabularyMultiple int
	// DefaultLoraRank is the highest rank of adapters when no flag sets it.
	DefaultLoraRank int
	// CacheBytes returns the size of an element of the KV cache of a type; the empty type is a 16-bit one.
	CacheBytes func(dtype string) float64
}

// LogTexts are parts of what an engine writes before it exits, by cause.
type LogTexts struct {
	// AccessDenied: the model hub refused the download.
	AccessDenied []string
	// OutOfMemory: the GPU has too little memory.
	OutOfMemory []string
}
