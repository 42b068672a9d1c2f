// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// cache is what the KV cache of one GPU costs.
type cache struct {
	// perToken grows with the context, perWindowToken with it up to window, fixed does not depend on it; bytes.
	perToken, perWindowToken, fixed float64
	window                          int
	// block is how many tokens a block has.
	block int
}

// cache of the model on one GPU. MLA's latent is whole on every GPU: it is divided by the pipeline only.
func (f filling) cache() cache {
	m, a, tp := f.model, f.model.Attention, f.tensorParallel
	element := f.figures.CacheBytes(f.kvDtype)
	stages := float64(f.pipelineParallel)
	full, sliding := float64(a.FullLayers), float64(a.SlidingLayers)
	if !f.hybrid {
		full, sliding = full+sliding, 0
	}
	var perLayer float64
	if a.Kind == catalog.AttentionMLA {
		perLayer = float64(a.LoraRank+a.RopeDim) * element / stages
	} else {
		perLayer = 2 * float64(m.KVHeads) * float64(m.HeadDim) * element / (float64(min(tp, max(m.KVHeads, 1))) * stages)
	}
	index := float64(a.IndexerBytes) * full / stages
	return cache{
		perToken: full*perLayer + index, perWindowToken: sliding * perLayer, window: a.Window - 1 + f.figures.WindowTokens,
		fixed: float64(a.StateBytes) / (float64(tp) * stages), block: max(f.figures.BlockTokens, 1),
	}
}

// bytes of the cache for one sequence of a length, in whole blocks, and the block that is always empty.
func (c cache) bytes(tokens int) float64 {
	held := func(tokens int) float64 { return float64((tokens+c.block-1)/c.block*c.block + c.block) }
	return c.fixed + c.perToken*held(tokens) + c.perWindowToken*held(min(tokens, max(c.window, 0)))
}

// fits is the longest sequence that the memory holds, at most limit.
func (c cache) fits(memory float64, limit int) int {
	return longest(limit, func(tokens int) bool { return c.bytes(tokens) <= memory })
}

// filling is one GPU that is filled for inference.
type filling struct {
	model       catalog.Model
	size        catalog.Size
	figures     engine.Figures
	utilization float64
	kvDtype     string
	// tensorParallel GPUs share each layer, pipelineParallel stages share the layers.
	tensorParallel, pipelineParallel int
	// limit is the longest context that is wanted, tokens.
	limit int
	// adapters of a rank.
	adapters, rank int
	// hybrid: layers with a sliding window need cache for the window only.
	hybrid bool
	// shape is the engine's own count; nil: the memory is estimated from the catalogue.
	shape *engine.Shape
	// batch is what the engine computes at once.
	batch engine.Batch
	// quantized: the engine quantizes 16-bit weights while it loads them; weightBytes is what they then take.
	quantized   bool
	weightBytes float64
	// cacheBytes and cacheBlocks are the user's size of the cache; 0: what is left.
	cacheBytes, cacheBlocks int
}

// fill returns what fills the GPU. The context is what is left, at most limit; ok is false under MinContext.
func (f filling) fill() (Terms, int, bool) {
	if f.shape != nil {
		if share := f.shape.GPUs[f.tensorParallel]; len(share.Pipelines[f.pipelineParallel]) > 0 {
			return f.counted(share)
		}
	}
	t := f.empty()
	t.Weights = f.weightBytes * f.figures.WeightsFactor / float64(f.tensorParallel*f.pipelineParallel)
	t.Activations = f.activations(t.Weights)
	if f.adapters > 0 {
		t.Weights += float64(f.adapters) * adapterParams(f.model, f.rank) * 2 / float64(f.pipelineParallel)
	}
	c := f.cache()
	memory := f.cacheMemory(t)
	if f.cacheBlocks > 0 {
		memory = min(memory, c.fixed+(c.perToken+c.perWindowToken)*float64(f.cacheBlocks*c.block))
	}
	context := c.fits(memory, f.limit)
	ok := context >= min(MinContext, f.limit) && context > 0
	held := context
	if !ok {
		held = min(MinContext, f.limit)
	}
	t.KVCache = c.bytes(held)
	t.Free = t.Usable - t.Weights - t.Activations - t.KVCache
	return t, context, ok
}

// adapterParams of LoRA on all linear layers: r × (in + out) for each matrix.
func adapterParams(m catalog.Model, rank int) float64 {
	hidden, kv := float64(m.Hidden), float64(m.KVHeads*m.HeadDim)
	query := float64(m.Heads * m.HeadDim)
	sum := 2*(hidden+query) + 2*(hidden+kv) // q and o, k and v
	if m.Tuning != nil {
		matrices := 2.0
		if m.Tuning.GatedMLP {
			matrices = 3
		}
		sum += matrices * (hidden + float64(m.Tuning.Intermediate))
	}
	return float64(rank) * sum * float64(m.Layers)
}
