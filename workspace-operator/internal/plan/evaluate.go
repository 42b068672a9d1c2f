// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// evaluate makes the best plan of one option; the fall is why there is none, with the arithmetic of the attempt in the
// plan.
func (q *question) evaluate(o option) (p *Plan, why *fall) {
	p = &Plan{InstanceType: o.size.Name, CapacityType: o.capacity, Size: o.size, Model: q.model, Nodes: 1,
		GPUsPerNode: o.size.GPUs, TensorParallel: 1, PipelineParallel: 1, DataParallel: 1}
	defer func() { q.cost(p) }()
	if why := q.partition(p); why != nil {
		return p, why
	}
	if q.request.Mode == ModeTemplate {
		if q.request.Count != nil {
			p.Nodes = *q.request.Count
		}
		return p, nil
	}
	if why := q.engine(p); why != nil {
		return p, why
	}
	if q.request.Mode == ModeTuning {
		return p, q.tune(p)
	}
	if why := q.served(p); why != nil {
		return p, why
	}
	if why := q.cached(p); why != nil {
		return p, why
	}
	return p, q.serve(p)
}

func (q *question) cost(p *Plan) {
	price, known := q.price(p.Size.Name, p.CapacityType)
	if len(q.request.Sizes) > 0 {
		known = false // nodes that are there are not rented by us
	}
	p.Priced = known
	if known {
		p.CostPerHour, p.PriceDate = price.USDPerHour*float64(p.Nodes), price.Date
	}
}

// partition takes a part of the node. A process sees one MIG instance and no second, so instances cannot share a model.
func (q *question) partition(p *Plan) *fall {
	n := q.request.Slices
	if p.Size.GPUs < 1 {
		return fell(CauseNoGPU, "it has no GPU to allocate")
	}
	if n > p.Size.GPUs {
		return fell(CausePartition, "resource.partition.count is %d, the size has %d", n, p.Size.GPUs)
	}
	if n > 0 {
		p.GPUsPerNode = n
	}
	if p.Size.MIGProfile == "" || q.request.Mode == ModeTemplate {
		return nil
	}
	if n > 1 {
		return fell(
			CausePartition,
			"resource.partition.count is %d: a model uses one MIG instance, and instances cannot be joined; allowed: 1, or a larger profile than %s",
			n, p.Size.MIGProfile,
		)
	}
	p.GPUsPerNode = 1
	return nil
}

// engine finds the engine and the dtype that the GPU takes.
func (q *question) engine(p *Plan) *fall {
	engine, err := q.catalog.Engine(p.Size.Capability)
	if err != nil {
		return fell(CauseCapability, "%s", err)
	}
	if err := q.configs[engine.Version].err; err != nil {
		return fell(CauseConfig, "%s", err)
	}
	p.Engine, p.Dtype = engine, engine.Dtypes[0]
	if slices.Contains(engine.Dtypes, q.model.Dtype) {
		p.Dtype = q.model.Dtype
	}
	if d := q.config.Dtype; d != "" && q.request.Mode == ModeInference {
		if !slices.Contains(engine.Dtypes, d) {
			return fell(
				CauseModel, "dtype %s of the config cannot be computed by compute capability %s (it can: %v)", d, p.Size.Capability,
				engine.Dtypes,
			)
		}
		p.Dtype = d
	}
	if q.model.NoFloat16 && p.Dtype == "float16" {
		return fell(
			CauseModel, "the model overflows in float16, and the dtype on compute capability %s is float16", p.Size.Capability,
		)
	}
	return nil
}

// tune fills a GPU for training: the whole model on each, as many copies as there are GPUs.
func (q *question) tune(p *Plan) *fall {
	p.Memory = tuningTerms(q.model, p.Size, q.request.Method, q.training)
	p.MaxModelLen, p.DataParallel = q.training.sequence, p.GPUsPerNode
	if p.Memory.Free < 0 {
		return fell(
			CauseMemory, "needs %.1f GiB a GPU (weights %.1f, training %.1f for %d × %d tokens), usable are %.1f of %.1f",
			(p.Memory.Weights+p.Memory.Activations)/GiB, p.Memory.Weights/GiB, p.Memory.Activations/GiB, q.training.batch,
			q.training.sequence, p.Memory.Usable/GiB, p.Size.DeviceGiB,
		)
	}
	return nil
}

// serve looks for the fewest nodes, and on them for the fewest GPUs a copy that give the longest context.
func (q *question) serve(p *Plan) *fall {
	limit := q.model.Context
	if n := q.config.MaxModelLen; n > 0 {
		limit = n
	}
	most := q.mostNodes(p)
	for nodes := 1; nodes <= most; nodes++ {
		if q.place(p, nodes, limit) {
			p.GPUsPerNode = p.TensorParallel * p.DataParallel
			return nil
		}
	}
	return q.why(p, limit, most)
}

// mostNodes that a pipeline may have: none where the model, the engine or a MIG instance forbids it.
func (q *question) mostNodes(p *Plan) int {
	if !q.model.MultiNode || !p.Engine.MultiNode || p.Size.MIGProfile != "" {
		return 1
	}
	most := MaxNodes
	if q.request.Count != nil {
		most = *q.request.Count
	}
	return min(most, max(q.model.Layers, 1))
}

// place tries a number of nodes; the best tensor parallelism is kept in the plan either way.
func (q *question) place(p *Plan, nodes, limit int) bool {
	p.Nodes, p.PipelineParallel, p.DataParallel = nodes, nodes, 1
	found, best := false, -1
	for _, tp := range q.tensorParallels(p, nodes) {
		terms, context, ok := q.fill(p, tp, nodes, limit)
		if context <= best {
			continue
		}
		best, found = context, ok
		p.TensorParallel, p.Memory, p.MaxModelLen = tp, terms, context
		if best == limit {
			break
		}
	}
	if q.config.MaxModelLen > 0 && best < limit {
		return false
	}
	if nodes == 1 && p.Engine.DataParallel {
		p.DataParallel = max(p.GPUsPerNode/p.TensorParallel, 1)
	}
	return found
}

func (q *question) fill(p *Plan, tp, pp, limit int) (Terms, int, bool) {
	m := q.model
	weights := float64(m.WeightsBytes)
	quantization, quantized := q.catalog.Quantization(p.Quantization)
	if quantized {
		weights = weights * float64(quantization.Bits) / 16
	}
	shape := q.software.Shape(m, p.Engine, p.Size.Capability)
	rank := q.software.Figures().DefaultLoraRank
	if q.request.AdapterRank > 0 {
		rank = q.software.LoraRank(q.request.AdapterRank)
	}
	return filling{
		model: m, size: p.Size, figures: q.software.Figures(), utilization: q.utilization(p.Size), kvDtype: q.kvDtype(),
		tensorParallel: tp, pipelineParallel: pp, limit: limit, adapters: q.request.Adapters, rank: rank,
		hybrid: p.Engine.HybridCache, shape: shape, batch: q.batch(p.Size, shape), quantized: quantized,
		weightBytes: weights, cacheBytes: q.config.CacheBytes, cacheBlocks: q.config.CacheBlocks,
	}.fill()
}

// batch is what the engine computes at once on a GPU.
func (q *question) batch(size catalog.Size, shape *engine.Shape) engine.Batch {
	b := q.software.Batch(size)
	if shape != nil {
		b.Tokens = max(b.Tokens, shape.LeastBatch)
	}
	if q.config.BatchTokens > 0 {
		b.Tokens = q.config.BatchTokens
	}
	return b
}

// why puts the closest attempt's arithmetic into words.
func (q *question) why(p *Plan, limit, most int) *fall {
	t := p.Memory
	cause := CauseMemory
	text := fmt.Sprintf(
		"%d × %d GPUs, tensor parallel %d: weights %.1f + activations %.1f + cache %.1f GiB for %d tokens is over the usable %.1f of %.1f GiB a GPU",
		p.Nodes, p.GPUsPerNode, p.TensorParallel, t.Weights/GiB, t.Activations/GiB, t.KVCache/GiB, min(MinContext, limit),
		t.Usable/GiB, p.Size.DeviceGiB,
	)
	if q.config.MaxModelLen > 0 && p.MaxModelLen > 0 {
		cause = CauseContext
		text = fmt.Sprintf(
			"%d × %d GPUs, tensor parallel %d: max-model-len %d of the config does not fit, %d tokens do", p.Nodes,
			p.GPUsPerNode, p.TensorParallel, limit, p.MaxModelLen,
		)
	}
	switch {
	case most > 1 && q.request.Count != nil:
		text += fmt.Sprintf("; resource.count allows %d nodes", *q.request.Count)
	case most > 1:
	case p.Size.MIGProfile != "":
		text += "; MIG instances cannot be joined"
	case !q.model.MultiNode:
		text += "; the model cannot be spread over nodes"
	case !p.Engine.MultiNode:
		text += fmt.Sprintf(
			"; %s %s, the last engine for compute capability %s, cannot spread a model over nodes", p.Engine.Name,
			p.Engine.Version, p.Size.Capability,
		)
	default:
		text += "; resource.count allows 1 node"
	}
	return fell(cause, "%s", text)
}
