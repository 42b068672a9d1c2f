// SPDX-License-Identifier: Apache-2.0

package plan

import "slices"

// served says whether the engine of this GPU serves the model, as it is stored or as the user wants it quantized.
func (q *question) served(p *Plan) *fall {
	m := q.model
	if m.MinEngine != "" && !p.Engine.AtLeast(m.MinEngine) {
		return fell(
			CauseModel, "the model needs %s %s or later, and %s is the last that serves compute capability %s", p.Engine.Name,
			m.MinEngine, p.Engine.Version, p.Size.Capability,
		)
	}
	if p.Size.Capability.Less(m.MinCapability) {
		return fell(
			CauseModel, "%s %s has no attention backend for %s models below compute capability %s, and the GPU has %s",
			p.Engine.Name, p.Engine.Version, m.Architecture, m.MinCapability, p.Size.Capability,
		)
	}
	if m.NoLoRA && q.request.Adapters > 0 {
		return fell(
			CauseAdapters, "%s serves no adapters on %s models: merge the adapter into the weights, or choose another model",
			p.Engine.Name, m.Architecture,
		)
	}
	method := m.Quant.Method
	if q.config.Quantization != "" {
		method = q.config.Quantization
	}
	if method == "" {
		return nil
	}
	quantization, known := q.catalog.Quantization(method)
	if !known {
		return fell(CauseModel, "the weights are stored by %s, which the catalogue does not know", method)
	}
	if p.Size.Capability.Less(quantization.MinCapability) {
		return fell(
			CauseModel, "quantization %s needs compute capability %s, the GPU has %s", method, quantization.MinCapability,
			p.Size.Capability,
		)
	}
	if m.Quant.Method == "" {
		p.Quantization = method
	}
	return nil
}

// cached says whether the engine has an attention backend for the type of the KV cache on this GPU.
func (q *question) cached(p *Plan) *fall {
	m := q.model
	types, known := q.software.CacheTypes(m, p.Engine, p.Size.Capability)
	switch dtype := q.kvDtype(); {
	case !known:
		return nil
	case len(types) == 0:
		return fell(
			CauseModel, "%s %s does not serve %s models on GPUs of compute capability %s", p.Engine.Name, p.Engine.Version,
			m.Architecture, p.Size.Capability,
		)
	case q.software.Figures().CacheBytes(dtype) == 1 && !slices.Contains(types, "fp8"):
		return fell(
			CauseConfig, "%s %s has no attention backend with kv-cache-dtype %s for %s models on compute capability %s: remove the key",
			p.Engine.Name, p.Engine.Version, dtype, m.Architecture, p.Size.Capability,
		)
	}
	return nil
}
