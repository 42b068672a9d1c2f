// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/plan"
)

func TestUserFlagsHaveTheFormOfTheEnginesParser(t *testing.T) {
	t.Parallel()
	r := inference("phi-4-mini-instruct", "Standard_NC24ads_A100_v4")
	r.InferenceConfig = `
max_probe_steps: 6
vllm:
  max-num-seqs: 64
  enable_prefix_caching: false # a switch that is off
  enforce-eager: true
  disable-log-stats: false     # has no opposite form
  seed: "7"
  speculative-config: {method: ngram, num_speculative_tokens: 3}
  enable-auto-tool-choice: false
  cudagraph-capture-sizes: [1, 2, 4]
  gpu-memory-utilization: 0.8
  kv-cache-dtype: fp8
`
	p := mustPlan(t, load(t), r)
	for flag, want := range (engine.Flags{
		"max-num-seqs": {"64"}, "no-enable-prefix-caching": nil, "enforce-eager": nil, "seed": {"7"},
		"no-enable-auto-tool-choice": nil, "gpu-memory-utilization": {"0.8"}, "kv-cache-dtype": {"fp8"},
		"speculative-config": {`{"method":"ngram","num_speculative_tokens":3}`}, "cudagraph-capture-sizes": {"1", "2", "4"},
	}) {
		got, set := p.Args[flag]
		assert.True(t, set, flag)
		assert.Equal(t, want, got, flag)
	}
	for _, flag := range []string{"enable-prefix-caching", "disable-log-stats", "no-disable-log-stats", "max-probe-steps", "enable-auto-tool-choice"} {
		assert.NotContains(t, p.Args, flag)
	}
	assert.InDelta(t, 79.15*0.8, p.Memory.Usable/(1<<30), 0.001, "the user's utilization is what is planned with")

	r.InferenceConfig = ""
	assert.Greater(t, mustPlan(t, load(t), r).Memory.KVCache, p.Memory.KVCache, "an 8-bit cache is half as large")
}

func TestWhatThePlanDecidesIsRefusedByName(t *testing.T) {
	t.Parallel()
	c := load(t)
	for _, key := range []string{
		"tensor-parallel-size", "tensor_parallel_size", "--tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size",
		"tensor-parallel-s", "decode-context-parallel-size", "prefill_context_parallel_size", "grpc", "runner", "served-model-name", "model", "port", "host", "revision", "trust-remote-code", "no-trust-remote-code",
		"enable-lora", "enable_expert_parallel", "api-key", "ssl-keyfile", "nnodes", "max-lora-rank", "a b", "",
	} {
		r := inference("phi-4", "Standard_NC24ads_A100_v4")
		r.InferenceConfig = "vllm: {\"" + key + "\": 1}"
		got := refusal(t, c, r)
		assert.Equal(t, kaitov1alpha1.ReasonInvalidConfig, got.Reason, key)
		assert.Contains(t, got.Message, "vllm."+key)
	}
	r := inference("phi-4", "Standard_NC24ads_A100_v4")
	r.InferenceConfig = "vllm: {tokenizer: org/tokenizer}"
	assert.Equal(
		t, []string{"org/tokenizer"}, mustPlan(t, c, r).Args["tokenizer"], "the beginning of tokenizer-mode, but a flag of its own",
	)
}

func TestValuesThatContradictTheModelAreRefused(t *testing.T) {
	t.Parallel()
	c := load(t)
	for _, tc := range []struct{ name, model, config, says string }{
		{"quantizing what is quantized otherwise", "Qwen/Qwen3-8B-AWQ", "quantization: fp8", "stored by awq"},
		{"a method that needs a prepared model", "phi-4", "quantization: gptq", "allowed for 16-bit weights: fp8"},
		{"a context beyond the model's", "phi-4", "max-model-len: 20K", "16384"},
		{"a context of nothing", "phi-4", "max-model-len: 0", "max-model-len"},
		{"a context that is a fraction", "phi-4", "max-model-len: 1.5", "max-model-len"},
		{"a utilization in percent", "phi-4", "gpu-memory-utilization: 90", "0.98"},
		{"a dtype that is not planned with", "phi-4", "dtype: float32", "allowed: auto, float16, bfloat16"},
		{"one flag in two spellings", "phi-4", "max-num-seqs: 1, max_num_seqs: 2", "sets the same flag"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := inference(tc.model, "Standard_NC24ads_A100_v4")
			r.InferenceConfig = "vllm: {" + tc.config + "}"
			got := refusal(t, c, r)
			assert.Equal(t, kaitov1alpha1.ReasonInvalidConfig, got.Reason)
			assert.Contains(t, got.Message, tc.says)
		})
	}
}

func TestMaxModelLenIsReadAsTheEngineReadsIt(t *testing.T) {
	t.Parallel()
	c := load(t)
	for text, want := range map[string]int{"8K": 8192, "8k": 8000, "'8192'": 8192, "1024": 1024, "auto": 16384, "-1": 16384, "'-1'": 16384} {
		r := inference("phi-4", "Standard_NC24ads_A100_v4")
		r.InferenceConfig = "vllm: {max-model-len: " + text + "}"
		assert.Equal(t, want, mustPlan(t, c, r).MaxModelLen, text)
	}
}

// TestWeightsQuantizedWhileLoading: embeddings and the output head keep 16 bits, so that it is more than half.
func TestWeightsQuantizedWhileLoading(t *testing.T) {
	t.Parallel()
	c := load(t)
	r := inference("qwen2.5-coder-32b-instruct", "Standard_NC24ads_A100_v4")
	plain := mustPlan(t, c, r)
	r.InferenceConfig = "vllm: {quantization: fp8}"
	p := mustPlan(t, c, r)
	assert.Equal(t, []string{"fp8"}, p.Args["quantization"])
	assert.InDelta(t, plain.Memory.Weights/2+152064*5120*2, p.Memory.Weights, 0.1*plan.GiB)
}

func TestCatalogueFlagsFollowModelEngineAndParallelism(t *testing.T) {
	t.Parallel()
	c := load(t)
	args := func(model, size string) engine.Flags { return mustPlan(t, c, inference(model, size)).Args }

	r1 := args("deepseek-ai/DeepSeek-R1-0528", "Standard_ND96isr_H200_v5")
	assert.Equal(t, []string{"deepseek_v3"}, r1["tool-call-parser"])
	assert.Equal(t, []string{"/vllm-workspace/examples/tool_chat_template_deepseekr1.jinja"}, r1["chat-template"])
	assert.NotContains(t, r1, "tokenizer-mode", "that of V3.2 would answer with empty texts")
	distill := args("deepseek-r1-distill-llama-8b", "Standard_NC24ads_A100_v4")
	assert.Equal(t, []string{"deepseek_r1"}, distill["reasoning-parser"])
	assert.NotContains(t, distill, "tool-call-parser", "its tokenizer lacks the parser's tokens")
	assert.NotContains(t, distill, "enable-auto-tool-choice")
	assert.Equal(t, []string{"mistral"}, args("mistral-7b-instruct", "Standard_NC12s_v3")["tokenizer-mode"])

	assert.NotContains(t, args("gpt-oss-20b", "Standard_NC24ads_A100_v4"), "enable-expert-parallel")
	assert.Contains(
		t, args("gpt-oss-20b", "Standard_NC48ads_A100_v4"), "enable-expert-parallel", "two copies share the experts",
	)
	assert.NotContains(t, args("phi-4", "Standard_NC48ads_A100_v4"), "enable-expert-parallel", "it has no experts")

	for _, model := range []string{"deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V4-Flash-0731", "zai-org/GLM-5.2-FP8"} {
		got := refusal(t, c, inference(model, "Standard_ND96amsr_A100_v4"))
		assert.Contains(t, got.Message, "no attention backend", model)
		assert.Contains(t, got.Message, "below compute capability 9.0, and the GPU has 8.0", model)
	}
	v32 := args("deepseek-ai/DeepSeek-V3.2", "Standard_ND96isr_H200_v5")
	assert.Contains(t, v32, "no-enable-flashinfer-autotune", "a switch that the catalogue turns off")
	assert.NotContains(t, v32, "trust-remote-code")
	assert.Contains(t, args("moonshotai/Kimi-K2.5", "Standard_ND96isr_H200_v5"), "trust-remote-code")
	assert.Equal(t, []string{"fp8"}, args("zai-org/GLM-5.2-FP8", "Standard_ND96isr_H200_v5")["kv-cache-dtype"])
}

// TestTheUsersCacheCounts: a block of Llama 3.1 8B has 16 tokens and 2 MiB, and the first is always empty.
func TestTheUsersCacheCounts(t *testing.T) {
	t.Parallel()
	c := load(t)
	on := func(config string) plan.Request {
		r := inference("llama-3.1-8b-instruct", "Standard_NV36ads_A10_v5")
		r.InferenceConfig = "vllm: {" + config + "}"
		return r
	}
	left := mustPlan(t, c, on("")).MaxModelLen
	assert.Equal(t, 499*16, mustPlan(t, c, on("num-gpu-blocks-override: 500")).MaxModelLen)
	assert.Equal(t, 511*16, mustPlan(t, c, on("kv-cache-memory-bytes: 1073741824")).MaxModelLen)
	assert.Contains(t, refusal(t, c, on("num-gpu-blocks-override: 100000")).Message, "fits no allowed choice")
	assert.Less(t, mustPlan(t, c, on("max-num-batched-tokens: 16384")).MaxModelLen, left, "more activations")
	assert.Contains(t, refusal(t, c, on("kv-cache-memory-bytes: 21474836480")).Message, "fits no allowed choice")
	assert.Contains(t, refusal(t, c, on("max-num-batched-tokens: 0")).Message, "max-num-batched-tokens")
}
