// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"strings"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// Engine is vLLM.
type Engine struct{}

var _ engine.Engine = Engine{}

// gib is 2^30 bytes.
const gib = 1 << 30

// Figures returns vLLM's own in the arithmetic of memory. Weights need 2 % more than their files for buffers that are
// kept beside them; the base is CUDA's context, the graphs and the sampling buffers; 5 % of the weights is the peak of
// activations during profiling (vLLM's memory profiling of models from 1 to 70 billion parameters).
func (Engine) Figures() engine.Figures {
	return engine.Figures{
		WeightsFactor: 1.02, ActivationBase: 2.3 * gib, ActivationShare: 0.05,
		// Two batches (the engine schedules one while another runs) of 8192 tokens, the most that it takes by default when
		// it serves (EngineArgs, 8192 on an H100 and 2048 on smaller GPUs; one figure for all keeps a plan from getting
		// worse on a larger GPU).
		WindowTokens:       2 * 8192,
		BlockTokens:        16, // CacheConfig.DEFAULT_BLOCK_SIZE; block 0 of the BlockPool is the null block
		SpareShare:         0.01,
		VocabularyMultiple: 64, // DEFAULT_VOCAB_PADDING_SIZE
		DefaultLoraRank:    16, // max-lora-rank
		CacheBytes:         cacheBytes,
	}
}

// Batch returns the defaults of `vllm serve` (EngineArgs.get_batch_defaults of vLLM 0.32.0).
func (Engine) Batch(size catalog.Size) engine.Batch {
	switch {
	case size.DeviceGiB >= 160:
		return engine.Batch{Tokens: 16384}
	case size.DeviceGiB >= 70 && !strings.Contains(strings.ToLower(size.GPUModel), "a100"):
		return engine.Batch{Tokens: 8192}
	default:
		return engine.Batch{Tokens: 2048}
	}
}

func cacheBytes(dtype string) float64 {
	switch dtype {
	case "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla":
		return 1
	}
	return 2
}

// LoraRank returns a rank that --max-lora-rank accepts.
func (Engine) LoraRank(want int) int {
	for _, rank := range loraRanks {
		if rank >= want {
			return rank
		}
	}
	return want
}

// loraRanks that vLLM accepts (MaxLoRARanks), from the one that covers what is tuned by default. They are never
// changed.
var loraRanks = []int{16, 32, 64, 128, 256, 320, 512}

// LogTexts are vLLM's, and those of the hub's client and of torch, which run in its process.
func (Engine) LogTexts() engine.LogTexts {
	return engine.LogTexts{
		AccessDenied: []string{"GatedRepoError", "Cannot access gated repo", "401 Client Error", "403 Client Error"},
		OutOfMemory: []string{
			"CUDA out of memory", "torch.OutOfMemoryError", "No available memory for the cache blocks",
			"is larger than the maximum number of tokens that can be stored in KV cache",
		},
	}
}
