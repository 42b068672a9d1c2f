// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"math"

	"kaito.sh/workspace-operator/internal/engine"
)

// countedRank is the rank that the shapes' figures for adapters are of.
const countedRank = 16

// counted fills a GPU by the engine's own count. The terms are those of the stage that has the least left.
func (f filling) counted(share engine.Share) (Terms, int, bool) {
	kind := "auto"
	if f.figures.CacheBytes(f.kvDtype) == 1 && share.Groups["fp8"] != nil {
		kind = "fp8"
	}
	groups := share.Groups[kind]
	tightest, blocks := Terms{}, math.MaxInt
	var block float64
	for _, stage := range share.Pipelines[f.pipelineParallel] {
		t := f.stage(share, stage)
		left := f.cacheMemory(t)
		n := int(math.Floor(left/stage.Block[kind])) - 1 // the first block is always empty
		if wanted := f.cacheBlocks - 1; f.cacheBlocks > 0 {
			if n < wanted {
				wanted = 0 // the engine would take what is not there
			}
			n = wanted
		}
		if n < blocks {
			tightest, blocks, block = t, n, stage.Block[kind]
		}
	}
	context := longest(f.limit, func(tokens int) bool { return engine.Blocks(groups, tokens, f.inFlight()) <= blocks })
	ok := context >= min(MinContext, f.limit) && context > 0
	held := context
	if !ok {
		held = min(MinContext, f.limit)
	}
	t := tightest
	t.KVCache = float64(engine.Blocks(groups, held, f.inFlight())+1) * block
	t.Free = t.Usable - t.Weights - t.Activations - t.KVCache
	return t, context, ok
}

// stage has the terms of a GPU of a stage, without the cache.
func (f filling) stage(share engine.Share, stage engine.Stage) Terms {
	t := f.empty()
	t.Weights = stage.Weights
	if f.quantized && stage.Quantized > 0 {
		t.Weights = stage.Quantized
	}
	if alone := share.Pipelines[1]; f.shape.Approximate && len(alone) > 0 {
		whole := alone[0].Weights * float64(f.tensorParallel)
		t.Weights *= max(float64(f.model.WeightsBytes)/whole, 1)
	}
	t.Activations = f.activations(t.Weights)
	if f.adapters > 0 && share.Adapter == 0 {
		t.Weights += float64(f.adapters) * adapterParams(f.model, f.rank) * 2 / float64(f.pipelineParallel)
	} else if f.adapters > 0 {
		layers := float64(f.model.Layers)
		most := math.Ceil(layers/float64(f.pipelineParallel)) / layers
		t.Weights += share.Adapters + float64(f.adapters)*share.Adapter*float64(f.rank)/countedRank*most
	}
	return t
}

// empty has the terms of a GPU with nothing on it.
func (f filling) empty() Terms {
	device := f.size.DeviceGiB * GiB
	return Terms{Usable: device * f.utilization, Overhead: device * (1 - f.utilization)}
}

// cacheMemory is what the cache may take, bytes. Where the user's configuration names it, it is that, and nothing if it
// is not there.
func (f filling) cacheMemory(t Terms) float64 {
	if f.cacheBytes > 0 {
		if t.Weights+t.Activations+float64(f.cacheBytes) > f.size.DeviceGiB*GiB*(1-f.figures.SpareShare) {
			return 0
		}
		return float64(f.cacheBytes)
	}
	return t.Usable*(1-f.figures.SpareShare) - t.Weights - t.Activations
}

// inFlight are the tokens of all steps that the engine prepares and computes at a time: one more than there are stages.
func (f filling) inFlight() int { return (f.pipelineParallel + 1) * f.batch.Tokens }

// activations are the peak of what a step needs besides weights and cache, bytes: the base, and for each token of a
// batch the widest layer's vectors of 16 bits. Of a dense layer these are the gate, the product and the result of the
// feed-forward part, which GPUs share, and four vectors of the hidden width (residual, input, output, and a copy that
// GPUs add up). Of a mixture of experts each token has them once an expert (the workspaces of fused_moe in vLLM
// 0.32.0). Where the widths are not known, or images are read, at least a share of the weights is taken.
func (f filling) activations(weights float64) float64 {
	byWeights := f.figures.ActivationShare * weights
	s := f.shape
	if s == nil || s.Hidden == 0 {
		return f.figures.ActivationBase + byWeights
	}
	const element = 2
	shared := float64(f.tensorParallel)
	token := 4*float64(s.Hidden) + 3*float64(s.Intermediate)/shared
	if s.Experts > 0 {
		width := float64(cmp.Or(s.ExpertIntermediate, s.Intermediate))
		token += float64(max(s.ExpertsPerToken, 1)) * (max(2*width/shared, float64(s.Hidden)) + width/shared)
	}
	counted := float64(f.batch.Tokens) * token * element
	if s.Vision {
		counted = max(counted, byWeights)
	}
	return f.figures.ActivationBase + counted
}

// longest is the most tokens up to limit that fit.
func longest(limit int, fits func(tokens int) bool) int {
	low, high := 0, limit
	for low < high {
		middle := low + (high-low+1)/2
		if fits(middle) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}
