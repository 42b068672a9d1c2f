package plan

import (
	"fmt"
	"slices"

	"kaito.sh/shared/catalog"
)

// evaluate makes the best plan of one option; rejected is why there is none, with the arithmetic of the attempt in the plan.
func (q *question) evaluate(o option) (p *Plan, rejected string) {
	p = &Plan{InstanceType: o.size.Name, CapacityType: o.capacity, Size: o.size, Model: q.model, Nodes: 1,
		GPUsPerNode: o.size.GPUs, TensorParallel: 1, PipelineParallel: 1, DataParallel: 1}
	defer func() { q.cost(p) }()
	if n := q.request.Slices; n > 0 {
		if n > o.size.GPUs {
			return p, fmt.Sprintf("resource.partition.count is %d, the size has %d", n, o.size.GPUs)
		}
		p.GPUsPerNode = n
	}
	if q.request.Mode == ModeTemplate {
		if q.request.Count != nil {
			p.Nodes = *q.request.Count
		}
		return p, ""
	}
	if why := q.engine(p); why != "" {
		return p, why
	}
	if q.request.Mode == ModeTuning {
		return p, q.tune(p)
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

// engine finds the engine and the dtype that the GPU takes.
func (q *question) engine(p *Plan) string {
	engine, err := q.catalog.Engine(p.Size.Capability)
	if err != nil {
		return err.Error()
	}
	p.Engine, p.Dtype = engine, engine.Dtypes[0]
	if slices.Contains(engine.Dtypes, q.model.Dtype) && q.model.Quant.Method == "" {
		p.Dtype = q.model.Dtype
	}
	if d := q.inference.dtype; d != "" {
		if !slices.Contains(engine.Dtypes, d) {
			return fmt.Sprintf("dtype %s of the config cannot be computed by compute capability %s (it can: %v)", d, p.Size.Capability, engine.Dtypes)
		}
		p.Dtype = d
	}
	m := q.model
	if q.request.Mode == ModeTuning {
		return ""
	}
	switch {
	case m.MinEngine != "" && !engine.AtLeast(m.MinEngine):
		return fmt.Sprintf("the model needs %s %s or later, and %s is the last that serves compute capability %s", engine.Name, m.MinEngine, engine.Version, p.Size.Capability)
	case m.NoFloat16 && p.Dtype == "float16":
		return fmt.Sprintf("the model overflows in float16, and compute capability %s has no bfloat16", p.Size.Capability)
	case m.NoLoRA && q.request.Adapters > 0:
		return "the engine cannot serve adapters on this model"
	}
	method := m.Quant.Method
	if q.inference.quantization != "" {
		method = q.inference.quantization
	}
	if method == "" {
		return ""
	}
	quantization, known := q.catalog.Quantization(method)
	if !known {
		return fmt.Sprintf("quantization %q is not known; allowed: %v", method, q.catalog.InFlightQuantizations())
	}
	if p.Size.Capability.Less(quantization.MinCapability) {
		return fmt.Sprintf("quantization %s needs compute capability %s, the GPU has %s", method, quantization.MinCapability, p.Size.Capability)
	}
	if m.Quant.Method == "" {
		if !quantization.InFlight {
			return fmt.Sprintf("quantization %s cannot be applied while loading; allowed: %v", method, q.catalog.InFlightQuantizations())
		}
		p.Quantization = method
	}
	return ""
}

// tune fills a GPU for training: the whole model on each, as many copies as there are GPUs.
func (q *question) tune(p *Plan) string {
	p.Memory = tuningTerms(q.model, p.Size, q.request.Method, q.training)
	p.MaxModelLen, p.DataParallel = q.training.sequence, p.GPUsPerNode
	if p.Memory.Free < 0 {
		return fmt.Sprintf("needs %.1f GiB a GPU (weights %.1f, training %.1f), usable are %.1f of %.1f",
			(p.Memory.Weights+p.Memory.Activations)/GiB, p.Memory.Weights/GiB, p.Memory.Activations/GiB, p.Memory.Usable/GiB, p.Size.DeviceGiB)
	}
	return ""
}

// serve looks for the fewest nodes, and on them for the fewest GPUs a copy that give the longest context.
func (q *question) serve(p *Plan) string {
	limit := q.model.Context
	if n := q.inference.maxModelLen; n > 0 {
		if n > q.model.Context {
			return fmt.Sprintf("max-model-len %d of the config is over the model's own limit of %d", n, q.model.Context)
		}
		limit = n
	}
	most := 1
	if q.model.MultiNode {
		most = MaxNodes
		if q.request.Count != nil {
			most = *q.request.Count
		}
		most = min(most, max(q.model.Layers, 1))
	}
	for nodes := 1; nodes <= most; nodes++ {
		if q.place(p, nodes, limit) {
			return ""
		}
	}
	return q.why(p, limit, most)
}

// place tries a number of nodes; the best tensor parallelism is kept in the plan either way.
func (q *question) place(p *Plan, nodes, limit int) bool {
	p.Nodes, p.PipelineParallel = nodes, nodes
	found := false
	best := 0
	for _, tp := range q.tensorParallels(p, nodes) {
		terms, context, ok := q.fill(p, tp, nodes, limit)
		if !found || context > best {
			p.TensorParallel, p.Memory, p.MaxModelLen = tp, terms, context
		}
		if ok && context > best {
			found, best = true, context
		}
		if best == limit {
			break
		}
	}
	if q.inference.maxModelLen > 0 && best < limit {
		found = false
	}
	p.DataParallel = 1
	if nodes == 1 {
		p.DataParallel = max(p.GPUsPerNode/p.TensorParallel, 1)
	}
	return found
}

// tensorParallels are the divisors of the heads that a node has GPUs for, ascending. Across nodes every GPU is used, or
// as many as divide the heads: a pipeline's stages are alike.
func (q *question) tensorParallels(p *Plan, nodes int) []int {
	var out []int
	for tp := 1; tp <= p.GPUsPerNode; tp++ {
		if divides(q.model, tp) {
			out = append(out, tp)
		}
	}
	if nodes > 1 {
		return out[len(out)-1:]
	}
	return out
}

// divides says whether the engine can cut the model into tp: attention heads and, where it is known, the vocabulary.
// Fewer KV heads than tp are repeated, so one must divide the other.
func divides(m catalog.Model, tp int) bool {
	if tp == 1 {
		return true
	}
	if m.Heads%tp != 0 {
		return false
	}
	if m.Attention.Kind == catalog.AttentionMLA || m.KVHeads == 0 {
		return true
	}
	return m.KVHeads%tp == 0 || tp%m.KVHeads == 0
}

func (q *question) fill(p *Plan, tp, pp, limit int) (Terms, int, bool) {
	m := q.model
	if p.Quantization != "" {
		if quantization, known := q.catalog.Quantization(p.Quantization); known {
			m.WeightsBytes = m.WeightsBytes * int64(quantization.Bits) / 16
		}
	}
	utilization := p.Size.Utilization
	if q.inference.utilization > 0 {
		utilization = q.inference.utilization
	}
	kv := m.Attention.KVDtype
	if q.inference.kvDtype != "" {
		kv = q.inference.kvDtype
	}
	rank := q.request.AdapterRank
	if rank == 0 {
		rank = defaultRank
	}
	return serving(m, p.Size, utilization, kv, tp, pp, limit, q.request.Adapters, rank, p.Engine.HybridCache)
}

// defaultRank is vLLM's default for max-lora-rank.
const defaultRank = 16

// why puts the closest attempt's arithmetic into words.
func (q *question) why(p *Plan, limit, most int) string {
	t := p.Memory
	text := fmt.Sprintf("%d × %d GPUs, tensor parallel %d: weights %.1f + activations %.1f + cache %.1f GiB for %d tokens is over the usable %.1f of %.1f GiB a GPU",
		p.Nodes, p.GPUsPerNode, p.TensorParallel, t.Weights/GiB, t.Activations/GiB, t.KVCache/GiB, min(MinContext, limit), t.Usable/GiB, p.Size.DeviceGiB)
	if q.inference.maxModelLen > 0 {
		text = fmt.Sprintf("%d × %d GPUs, tensor parallel %d: max-model-len %d of the config does not fit, %d tokens do", p.Nodes, p.GPUsPerNode, p.TensorParallel, limit, p.MaxModelLen)
	}
	if most == 1 && !q.model.MultiNode {
		text += "; the model cannot be spread over nodes"
	} else if q.request.Count != nil {
		text += fmt.Sprintf("; resource.count allows %d nodes", *q.request.Count)
	}
	return text
}

func (p *Plan) candidate(rejected string) Candidate {
	return Candidate{InstanceType: p.InstanceType, CapacityType: p.CapacityType, Nodes: p.Nodes, TensorParallel: p.TensorParallel,
		Memory: p.Memory, MaxModelLen: p.MaxModelLen, CostPerHour: p.CostPerHour, Priced: p.Priced, Rejected: rejected}
}
