// SPDX-License-Identifier: Apache-2.0

package plan

import "kaito.sh/shared/catalog"

// Figures of the tuning arithmetic. QLoRA (Dettmers et al., 2023, section 3): 4 bits and 0.127 bits of doubly quantized
// constants for each parameter of the linear layers; embeddings stay 16-bit. The optimizer keeps an adapter's parameter
// in 16 bits or 32, its gradient, and AdamW's two moments in 32: 16 bytes. The base is CUDA's context and PyTorch's
// caching allocator.
const (
	methodLoRA     = "lora"
	methodQLoRA    = "qlora"
	bitsQLoRA      = 4.127
	bitsQLoRA8     = 8.5 // LLM.int8: 8 bits, the rows' scales, and the outlier columns that stay 16-bit
	optimizerBytes = 16
	tuningBase     = 1.5 * GiB
	// activationsPerLayer counts tensors of the hidden size that one layer keeps while it is computed again (attention
	// and norms), and mlpTensors those of the feed-forward width.
	activationsPerLayer = 12
	mlpTensors          = 4
	// trainingWeightsFactor is what weights need in memory, in parts of their files: buffers are kept beside them.
	trainingWeightsFactor = 1.02
	// logitBytes: the loss keeps the logits and their logarithms in 32 bits, and the gradient of each in turn. That is 12
	// bytes of live tensors, which make test-trainer measures with the trainer's own libraries; the rest is a
	// margin for what CUDA's allocator keeps, which was not measured.
	logitBytes = 14
)

// training is what of training_config.yaml the memory depends on.
type training struct {
	rank, sequence, batch int
	checkpointing         bool
	eightBit              bool // load_in_8bit
}

// tuningTerms fills one GPU for LoRA or QLoRA; every GPU has the whole model (data parallel).
func tuningTerms(m catalog.Model, s catalog.Size, method string, t training) Terms {
	device := s.DeviceGiB * GiB
	terms := Terms{Usable: device * s.Utilization, Overhead: device * (1 - s.Utilization)}
	params := float64(m.Params())
	embeddings := float64(m.Tuning.Vocab) * float64(m.Hidden)
	if !m.Tuning.TiedEmbeddings {
		embeddings *= 2
	}
	bits := 16.0
	switch {
	case method == methodQLoRA && t.eightBit:
		bits = bitsQLoRA8
	case method == methodQLoRA:
		bits = bitsQLoRA
	}
	terms.Weights = max(params-embeddings, 0)*bits/8 + embeddings*2
	terms.Weights *= trainingWeightsFactor
	tokens := float64(t.sequence) * float64(t.batch)
	kept := float64(m.Layers)
	layer := tokens * (activationsPerLayer*float64(m.Hidden) + mlpTensors*float64(m.Tuning.Intermediate)) * 2
	activations := tokens*float64(m.Hidden)*2*kept + layer
	if !t.checkpointing {
		activations = layer * kept
	}
	terms.Activations = tuningBase + adapterParams(m, t.rank)*optimizerBytes + activations + tokens*float64(
		m.Tuning.Vocab,
	)*logitBytes
	terms.Free = terms.Usable - terms.Weights - terms.Activations
	return terms
}
