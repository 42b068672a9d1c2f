// SPDX-License-Identifier: Apache-2.0

package engine

// Shape is what a release of an engine needs in the memory of GPUs for a model, as the engine itself counts it. It is
// read only.
type Shape struct {
	// Widths of the model, in elements; 0: unknown, or the model has none.
	Vocabulary         int `json:"vocabulary"`
	Hidden             int `json:"hidden"`
	Intermediate       int `json:"intermediate"`
	Experts            int `json:"experts"`
	ExpertsPerToken    int `json:"expertsPerToken"`
	ExpertIntermediate int `json:"expertIntermediate"`
	// Vision: the model also reads images, which need memory that is not counted here.
	Vision bool `json:"vision"`
	// LeastBatch is the fewest tokens of a step that the engine takes by default; 0: no such bound.
	LeastBatch int `json:"leastBatch"`
	// Approximate: the files are larger than this count where its configuration is not exactly the model's.
	Approximate bool `json:"approximate"`
	// GPUs has what each GPU holds, by how many share each layer. A number that is missing is refused by the engine.
	GPUs map[int]Share `json:"gpus"`
}

// Share is what one of the GPUs holds that share each layer.
type Share struct {
	// Adapter is what an adapter of rank 16 takes, and Adapters what all of them need besides; bytes of the whole model.
	// 0: the engine serves none.
	Adapter  float64 `json:"adapter"`
	Adapters float64 `json:"adapters"`
	// Groups of layers that count their blocks alike, by the type of the cache: auto or fp8.
	Groups map[string][]Group `json:"groups"`
	// Pipelines has the stages of a pipeline by their number. Stages that need no more than another one are left out.
	Pipelines map[int][]Stage `json:"pipelines"`
}

// Stage is what one GPU of a stage holds.
type Stage struct {
	// Weights are bytes, Quantized bytes when the engine quantizes 16-bit weights to fp8; 0: it does not.
	Weights   float64 `json:"weights"`
	Quantized float64 `json:"fp8"`
	// Block has the bytes of a block of the cache, by the type of the cache.
	Block map[string]float64 `json:"block"`
}

// Group says how many blocks a sequence has in the layers of a group.
type Group struct {
	// Tokens of a block; 0: their number does not depend on the length.
	Tokens int `json:"tokens"`
	// Window is how many tokens back the layers look; 0: all.
	Window int `json:"window"`
	// Fixed blocks are there for any length.
	Fixed int `json:"fixed"`
}

// Blocks of a sequence. A layer with a window keeps its tokens until the tokens that are computed are settled, so that
// tokens in flight count.
func Blocks(groups []Group, tokens, inFlight int) int {
	total := 0
	for _, g := range groups {
		total += g.Fixed
		if g.Tokens == 0 {
			continue
		}
		held := tokens
		if g.Window > 0 {
			held = min(held, g.Window-1+inFlight)
		}
		total += (held + g.Tokens - 1) / g.Tokens
	}
	return total
}
