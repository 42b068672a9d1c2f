// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

func mustPlan(t *testing.T, c *catalog.Catalog, r plan.Request) *plan.Plan {
	t.Helper()
	p, err := plan.Make(r, c, vllm.Engine{})
	require.NoError(t, err)
	return p
}

func refusal(t *testing.T, c *catalog.Catalog, r plan.Request) *plan.Refusal {
	t.Helper()
	_, err := plan.Make(r, c, vllm.Engine{})
	var out *plan.Refusal
	require.ErrorAs(t, err, &out)
	return out
}

func TestTheArithmeticOfTheSeedIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, load(t), inference("phi-3-mini-128k-instruct", "Standard_NC6s_v3"))
	gib := func(bytes float64) float64 { return bytes / plan.GiB }
	assert.InDelta(t, 15.77*0.90, gib(p.Memory.Usable), 0.001, "what CUDA reports of a 16 GiB V100, at 0.90")
	assert.InDelta(t, 7.12*1.02, gib(p.Memory.Weights), 0.001)
	assert.InDelta(t, 2.3+0.05*7.12*1.02, gib(p.Memory.Activations), 0.001)
	perToken := 2.0 * 32 * 32 * 96 * 2 // layers, KV heads, head dimension, 16 bits
	const block = 16
	assert.Zero(t, p.MaxModelLen%block, "whole blocks")
	assert.InDelta(t, perToken*float64(p.MaxModelLen+block), p.Memory.KVCache, 1, "and the one that is always empty")
	assert.GreaterOrEqual(t, p.Memory.Free, p.Memory.Usable/100, "a hundredth stays free")
	assert.Less(t, p.Memory.Free, p.Memory.Usable/100+perToken*block, "and the context is the rest")
	assert.Regexp(
		t, "^docker.io/vllm/vllm-openai:v0.10.2(@sha256:.*)?$", p.Engine.Image, "the last engine that runs on a V100",
	)
}

func TestGPUsOfANodeAreUsedByTensorOrDataParallelism(t *testing.T) {
	t.Parallel()
	c := load(t)
	for _, tc := range []struct {
		name, model, size string
		tp, dp            int
	}{
		{"one GPU is enough, so the rest are copies", "phi-4-mini-instruct", "Standard_ND96isr_H100_v5", 1, 8},
		{"what does not fit one GPU is cut, and copied", "llama-3.3-70b-instruct", "Standard_ND96isr_H100_v5", 4, 2},
		{"heads that no number of GPUs divides stay on one", "falcon-7b", "Standard_ND96isr_H100_v5", 1, 8},
		{"an engine without copies uses all GPUs for one", "phi-3-mini-128k-instruct", "Standard_NC24s_v3", 4, 1},
		{"28 heads and 4 KV heads on four V100", "qwen2.5-coder-7b-instruct", "Standard_NC24s_v3", 4, 1},
		{"28 heads and 4 KV heads on eight V100", "qwen2.5-coder-7b-instruct", "Standard_ND40rs_v2", 4, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := mustPlan(t, c, inference(tc.model, tc.size))
			assert.Equal(t, [2]int{tc.tp, tc.dp}, [2]int{p.TensorParallel, p.DataParallel}, "tensor and data parallelism")
			assert.Equal(t, tc.tp*tc.dp, p.GPUsPerNode)
		})
	}
}

func TestTensorParallelismDividesTheVocabulary(t *testing.T) {
	t.Parallel()
	r := inference("phi-4", "Standard_ND40rs_v2") // 40 heads and 10 KV heads: five would divide both
	r.Slices = 5
	assert.Equal(t, 2, mustPlan(t, load(t), r).TensorParallel)
}

func TestUserContextLengthIsMetOrRefused(t *testing.T) {
	t.Parallel()
	c := load(t)
	r := inference("phi-3-mini-128k-instruct", "Standard_NC6s_v3", "Standard_NC24ads_A100_v4")
	r.InferenceConfig = "vllm: {max-model-len: 65536}"
	p := mustPlan(t, c, r)
	assert.Equal(t, "Standard_NC24ads_A100_v4", p.InstanceType, "on the V100 11248 tokens fit")
	assert.Equal(t, 65536, p.MaxModelLen)
	fallen := p.Candidates[1]
	assert.Equal(t, plan.CauseContext, fallen.Cause)
	assert.Contains(t, fallen.Rejected, "65536")
	assert.Contains(t, fallen.Rejected, "11248 tokens do")
}

func TestCountIsAnUpperBoundAndRefusalShowsTheMemory(t *testing.T) {
	t.Parallel()
	c := load(t)
	request := inference("deepseek-r1-0528", "Standard_ND96isr_H100_v5")
	assert.Equal(t, 2, mustPlan(t, c, request).Nodes, "641 GiB need two nodes of 8 × 79 GiB")

	request.Count = count(4)
	assert.Equal(t, 2, mustPlan(t, c, request).Nodes, "two are enough, though more are allowed")

	request.Count = count(1)
	r := refusal(t, c, request)
	assert.Equal(t, kaitov1alpha1.ReasonInfeasible, r.Reason)
	assert.Equal(t, plan.CauseMemory, r.Candidates[0].Cause)
	assert.Contains(t, r.Message, "resource.count allows 1 node")
	assert.Contains(t, r.Message, "GiB")
}

func TestAModelThatCannotBeSpreadStaysOnOneNode(t *testing.T) {
	t.Parallel()
	r := refusal(t, load(t), inference("nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16", "Standard_NV36ads_A10_v5"))
	assert.Contains(t, r.Message, "cannot be spread over nodes")
}

func TestAPipelineIsTakenOnlyWhereNoSingleNodeFits(t *testing.T) {
	t.Parallel()
	c := load(t)
	p := mustPlan(t, c, inference("llama-3.1-8b-instruct"))
	require.Equal(t, 1, p.Nodes)
	cheaperPipeline := false
	for _, candidate := range p.Candidates {
		cheaperPipeline = cheaperPipeline ||
			candidate.Rejected == "" && candidate.Nodes > 1 && candidate.CostPerHour < p.CostPerHour
	}
	assert.True(t, cheaperPipeline, "the case is one where several small nodes are cheaper")

	r := inference("deepseek-r1-0528")
	r.Region = "eastus" // where no H200 is sold
	assert.Greater(t, mustPlan(t, c, r).Nodes, 1)
}

func TestTheOrderOfCandidatesIsTotal(t *testing.T) {
	t.Parallel()
	c := load(t)
	// These two cost the same everywhere and have the same GPU; the name decides.
	override := []byte("prices: {date: \"2026-06-18\", onDemand: {Standard_NC8as_T4_v3: {eastus: 0.526}}}")
	even, err := catalog.Load(override)
	require.NoError(t, err)
	r := inference("phi-3-mini-128k-instruct")
	r.Region = "eastus"
	assert.Equal(t, "Standard_NC4as_T4_v3", mustPlan(t, even, r).InstanceType)
	assert.Equal(t, "Standard_NC4as_T4_v3", mustPlan(t, c, r).InstanceType, "the cheapest feasible")
}

func TestMIGInstancesAreSizesOfOneDevice(t *testing.T) {
	t.Parallel()
	c := load(t)
	r := inference("phi-3-mini-128k-instruct", "Standard_NC24ads_A100_v4")
	r.MIGProfile = "2g.20gb"
	p := mustPlan(t, c, r)
	assert.Equal(t, [4]int{1, 1, 1, 1}, [4]int{p.GPUsPerNode, p.TensorParallel, p.DataParallel, p.Nodes})
	assert.InDelta(t, (79.15/4-0.4)*0.90, p.Memory.Usable/plan.GiB, 0.001)

	r.MIGProfile = "1g.10gb"
	small := refusal(t, c, r)
	assert.Equal(t, plan.CauseMemory, small.Candidates[0].Cause)
	assert.Contains(t, small.Message, "MIG instances cannot be joined")

	r.MIGProfile, r.Slices = "2g.20gb", 2
	assert.Equal(t, plan.CausePartition, refusal(t, c, r).Candidates[0].Cause)

	r.InstanceTypes, r.Slices = nil, 0
	for _, candidate := range mustPlan(t, c, r).Candidates {
		assert.Regexp(t, "_A100_v4$|ND96isr_H100_v5$", candidate.InstanceType, "2g.20gb exists on 80 GiB GPUs only")
	}
}

func TestPartOfANodeIsPlannedAsThatManyGPUs(t *testing.T) {
	t.Parallel()
	c := load(t)
	r := inference("llama-3.3-70b-instruct", "Standard_ND96isr_H100_v5")
	r.Slices = 4
	p := mustPlan(t, c, r)
	assert.Equal(t, [3]int{4, 4, 1}, [3]int{p.GPUsPerNode, p.TensorParallel, p.DataParallel})
	r.Slices = 9
	assert.Contains(t, refusal(t, c, r).Message, "resource.partition.count is 9, the size has 8")
}

func TestWhatTheGPUCannotServeFallsWithItsCause(t *testing.T) {
	t.Parallel()
	c := load(t)
	old := catalog.Size{
		Name:        "bare",
		GPUs:        1,
		DeviceGiB:   24,
		Utilization: 0.9,
		Capability:  catalog.ComputeCapability{Major: 6, Minor: 1},
	}
	adapters := inference("falcon-7b", "Standard_NC24ads_A100_v4")
	adapters.Adapters = 1
	bare, empty := inference("phi-4"), inference("phi-4")
	empty.Sizes = []catalog.Size{
		{Name: "empty", DeviceGiB: 80, Utilization: 0.9, Capability: catalog.ComputeCapability{Major: 8}},
	}
	bare.Sizes = []catalog.Size{old}
	for _, tc := range []struct {
		name    string
		request plan.Request
		cause   plan.Cause
		says    string
	}{
		{"a node without a GPU", empty, plan.CauseNoGPU, "no GPU"},
		{"a GPU below 7.0", bare, plan.CauseCapability, "6.1"},
		{"a model younger than the GPU's engine", inference("Qwen/Qwen3.5-2B", "Standard_NC6s_v3"), plan.CauseModel, "0.10.2"},
		{"a model that overflows in float16", inference("gemma-3-4b-instruct", "Standard_NC64as_T4_v3"), plan.CauseModel, "float16"},
		{"weights that the GPU cannot compute with", inference("gpt-oss-20b", "Standard_NC64as_T4_v3"), plan.CauseModel, "mxfp4"},
		{"adapters on a model that takes none", adapters, plan.CauseAdapters, "FalconForCausalLM"},
		{"training that does not fit", tuning("lora", "llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4"), plan.CauseMemory, "usable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := refusal(t, c, tc.request)
			require.Len(t, r.Candidates, 1)
			assert.Equal(t, tc.cause, r.Candidates[0].Cause)
			assert.Contains(t, r.Message, tc.says)
		})
	}
}

func TestATemplateIsCountedAndNotMeasured(t *testing.T) {
	t.Parallel()
	c := load(t)
	p := mustPlan(t, c, plan.Request{Mode: plan.ModeTemplate, InstanceTypes: []string{"Standard_NC96ads_A100_v4"}})
	assert.Equal(t, [2]int{1, 4}, [2]int{p.Nodes, p.GPUsPerNode})
	assert.Zero(t, p.Memory)
	assert.Nil(t, p.Args)
	p = mustPlan(
		t,
		c,
		plan.Request{
			Mode:          plan.ModeTemplate,
			InstanceTypes: []string{"Standard_NC96ads_A100_v4"},
			Count:         count(3),
			Region:        "eastus",
		},
	)
	assert.Equal(t, 3, p.Nodes)
	assert.InDelta(t, 3*14.692, p.CostPerHour, 0.001)
}

func TestExistingNodesArePlannedByLabelsWithoutCost(t *testing.T) {
	t.Parallel()
	own := catalog.Size{
		Name:        "NVIDIA-L40S",
		GPUs:        2,
		DeviceGiB:   44,
		Utilization: 0.9,
		Capability:  catalog.ComputeCapability{Major: 8, Minor: 9},
	}
	r := inference("qwen2.5-coder-32b-instruct")
	r.Sizes = []catalog.Size{own}
	p := mustPlan(t, load(t), r)
	assert.Equal(t, 2, p.TensorParallel)
	assert.False(t, p.Priced)
	assert.Zero(t, p.CostPerHour)
}

func TestModelOutsideTheCatalogueIsPlannedByItsFacts(t *testing.T) {
	t.Parallel()
	c := load(t)
	facts, err := c.Model("phi-4")
	require.NoError(t, err)
	facts.ID, facts.Aliases = "acme/Phi-clone", nil
	r := inference("acme/Phi-clone", "Standard_NC24ads_A100_v4")
	assert.Equal(t, kaitov1alpha1.ReasonUnknownPreset, refusal(t, c, r).Reason)
	r.Model = &facts
	assert.Equal(t, "acme/Phi-clone", mustPlan(t, c, r).Model.ID)
}

func TestTuningMemoryDependsOnMethodAndSettings(t *testing.T) {
	t.Parallel()
	c := load(t)
	base := tuning("QLoRA", "phi-3-mini-128k-instruct", "Standard_NC6s_v3")
	p := mustPlan(t, c, base)
	assert.Equal(t, "float16", p.Dtype)
	assert.Less(t, p.Memory.Weights/plan.GiB, 7.12/2, "4 bits, with 16-bit embeddings")
	assert.InDelta(t, p.Memory.Usable, p.Memory.Weights+p.Memory.Activations+p.Memory.Free, 1)

	heavier := map[string]string{
		"a longer sequence":       "TrainingArguments: {max_seq_length: 4096}",
		"a larger batch":          "TrainingArguments: {per_device_train_batch_size: 2}",
		"a higher rank":           "LoraConfig: {r: 64}",
		"no checkpointing":        "TrainingArguments: {gradient_checkpointing: false}",
		"KAITO's enclosing key":   "training_config: {LoraConfig: {r: 64}}",
		"numbers that are quoted": "LoraConfig: {r: \"64\"} # quoted",
	}
	for name, config := range heavier {
		r := base
		r.TrainingConfig = config
		assert.Greater(t, mustPlan(t, c, r).Memory.Activations, p.Memory.Activations, name)
	}
	eight := base
	eight.TrainingConfig = "QuantizationConfig: {load_in_8bit: true}"
	assert.Greater(t, mustPlan(t, c, eight).Memory.Weights, p.Memory.Weights, "8 bits are more than 4")
	assert.Greater(
		t, mustPlan(t, c, tuning("lora", "phi-3-mini-128k-instruct", "Standard_NC6s_v3")).Memory.Weights, p.Memory.Weights,
	)

	assert.Equal(t, kaitov1alpha1.ReasonInvalidSpec, refusal(t, c, tuning("dora", "phi-4")).Reason)
	endless := base
	endless.TrainingConfig = "TrainingArguments: {max_seq_length: 16000000, per_device_train_batch_size: 16000000}"
	assert.Equal(
		t, plan.CauseMemory, refusal(t, c, endless).Candidates[0].Cause, "a product that overflows an int32 is not small",
	)
}

func TestNoRequestPanicsAndEveryRefusalIsTyped(t *testing.T) {
	t.Parallel()
	c := load(t)
	names := []string{"", "phi-4", "@", "phi-4@", "a/b@c", "phi-4@main", "falcon-7b", strings.Repeat("x", 300)}
	sizes := []string{"", "standard_nc6s_v3", "Standard_NC96ads_A100_v4", "x"}
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string, from []string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(t, label)
		}
		r := plan.Request{
			Mode: plan.Mode(rapid.SampledFrom([]string{"inference", "tuning", "template", "", "x"}).Draw(t, "mode")),
			Preset: rapid.SampledFrom(names).
				Draw(t, "preset"),
			InstanceTypes: some("sizes", sizes),
			CapacityTypes: some("capacity", []string{"on-demand", "spot", ""}),
			MIGProfile: rapid.SampledFrom([]string{"", "1g.10gb", "x"}).
				Draw(t, "profile"),
			Slices: rapid.IntRange(-2, 60).Draw(t, "slices"),
			Region: rapid.SampledFrom([]string{"", "eastus", "atlantis"}).
				Draw(t, "region"),
			Method:      rapid.String().Draw(t, "method"),
			Adapters:    rapid.IntRange(-1, 100).Draw(t, "adapters"),
			AdapterRank: rapid.IntRange(-1, 1000).Draw(t, "rank"),
		}
		if rapid.Bool().Draw(t, "counted") {
			r.Count = count(rapid.IntRange(-3, 1<<30).Draw(t, "count"))
		}
		if rapid.Bool().Draw(t, "bare") {
			r.Sizes = []catalog.Size{
				{
					Name:        "bare",
					GPUs:        rapid.IntRange(0, 100).Draw(t, "gpus"),
					DeviceGiB:   rapid.Float64Range(0, 500).Draw(t, "memory"),
					Utilization: 0.9,
					Capability:  catalog.ComputeCapability{Major: rapid.IntRange(0, 13).Draw(t, "major")},
				},
			}
		}
		_, err := plan.Make(r, c, vllm.Engine{})
		if err != nil {
			var typed *plan.Refusal
			require.ErrorAs(t, err, &typed)
			assert.NotEmpty(t, typed.Reason)
			for _, candidate := range typed.Candidates {
				assert.NotEmpty(t, candidate.Cause, candidate.Rejected)
			}
		}
	})
}
