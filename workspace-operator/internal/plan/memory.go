// SPDX-License-Identifier: Apache-2.0

package plan

import "kaito.sh/shared/catalog"

// Figures of the memory arithmetic. Weights need 2 % more than their files for buffers that are kept beside them; the
// base is CUDA's context, the engine's graphs and its sampling buffers; 5 % of the weights is the peak of activations
// during profiling (vLLM's memory profiling of models from 1 to 70 billion parameters).
const (
	weightsFactor     = 1.02
	activationBase    = 2.3 * GiB
	activationPerByte = 0.05
)

// inFlight is how many tokens past its window a layer keeps until they are settled: two batches (the engine schedules
// one while another runs) of 8192 tokens, the most that vLLM takes by default when it serves (EngineArgs, 8192 on an
// H100 and 2048 on smaller GPUs; one figure for all keeps a plan from getting worse on a larger GPU).
const inFlight = 2 * 8192

// bytesOf a cached element.
func bytesOf(dtype string) float64 {
	switch dtype {
	case "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla":
		return 1
	}
	return 2
}

// cache is what the KV cache of one GPU costs.
type cache struct {
	// perToken grows with the context, perWindowToken with it up to window, fixed does not depend on it; bytes.
	perToken, perWindowToken, fixed float64
	window                          int
}

// cacheOf a model on one GPU of tp × pp. MLA's latent is whole on every GPU: it is divided by the pipeline only.
func cacheOf(m catalog.Model, kvDtype string, tp, pp int, hybrid bool) cache {
	a := m.Attention
	element := bytesOf(kvDtype)
	stages := float64(pp)
	full, sliding := float64(a.FullLayers), float64(a.SlidingLayers)
	if !hybrid {
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
		perToken: full*perLayer + index, perWindowToken: sliding * perLayer, window: a.Window - 1 + inFlight,
		fixed: float64(a.StateBytes) / (float64(tp) * stages),
	}
}

// bytes of the cache for one sequence of a length.
func (c cache) bytes(tokens int) float64 {
	return c.fixed + c.perToken*float64(tokens) + c.perWindowToken*float64(min(tokens, max(c.window, 0)))
}

// fits is the longest sequence that the memory holds, at most limit.
func (c cache) fits(memory float64, limit int) int {
	low, high := 0, limit
	for low < high {
		middle := low + (high-low+1)/2
		if c.bytes(middle) <= memory {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// serving fills one GPU for inference. The context is what is left, at most limit; ok is false under MinContext.
func serving(
	m catalog.Model, s catalog.Size, utilization float64, kvDtype string, tp, pp, limit, adapters, rank int, hybrid bool,
) (Terms, int, bool) {
	device := s.DeviceGiB * GiB
	t := Terms{Usable: device * utilization, Overhead: device * (1 - utilization)}
	t.Weights = float64(m.WeightsBytes) * weightsFactor / float64(tp*pp)
	t.Activations = activationBase + activationPerByte*t.Weights
	if adapters > 0 {
		t.Weights += float64(adapters) * adapterParams(m, rank) * 2 / float64(pp)
	}
	c := cacheOf(m, kvDtype, tp, pp, hybrid)
	context := c.fits(t.Usable-t.Weights-t.Activations, limit)
	if context < min(MinContext, limit) || context <= 0 {
		t.KVCache = c.bytes(min(MinContext, limit))
		t.Free = t.Usable - t.Weights - t.Activations - t.KVCache
		return t, context, false
	}
	t.KVCache = c.bytes(context)
	t.Free = t.Usable - t.Weights - t.Activations - t.KVCache
	return t, context, true
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
