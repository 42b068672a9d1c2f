// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

func load(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	return c
}

func count(n int) *int { return &n }

func inference(preset string, sizes ...string) plan.Request {
	return plan.Request{Mode: plan.ModeInference, Preset: preset, InstanceTypes: sizes}
}

func TestTheSeedFits(t *testing.T) {
	t.Parallel()
	c := load(t)
	tuned, err := plan.Make(
		plan.Request{
			Mode:          plan.ModeTuning,
			Method:        "qlora",
			Preset:        "phi-3-mini-128k-instruct",
			InstanceTypes: []string{"Standard_NC6s_v3"},
		},
		c, vllm.Engine{},
	)
	require.NoError(t, err)
	assert.Equal(t, 1, tuned.Nodes)
	request := inference("phi-3-mini-128k-instruct", "Standard_NC6s_v3")
	request.Adapters, request.AdapterRank = 1, 8
	served, err := plan.Make(request, c, vllm.Engine{})
	require.NoError(t, err)
	assert.Equal(t, "float16", served.Dtype, "a V100 has no bfloat16")
	assert.GreaterOrEqual(t, served.MaxModelLen, plan.MinContext)
	assert.Equal(t, "2026-06-18", served.PriceDate)
}

// The reference's known mistakes, each of which a user met.
func TestKnownMistakesAreNotMade(t *testing.T) {
	t.Parallel()
	c := load(t)
	t.Run("the driver of an A10 runs CUDA 12", func(t *testing.T) {
		t.Parallel()
		p, err := plan.Make(inference("phi-4-mini-instruct", "Standard_NV36ads_A10_v5"), c, vllm.Engine{})
		require.NoError(t, err)
		assert.Regexp(t, "-cu129$", p.Engine.Image)
	})
	t.Run("an 8-bit cache needs a backend", func(t *testing.T) {
		t.Parallel()
		request := inference("gpt-oss-20b", "Standard_NC24ads_A100_v4")
		request.InferenceConfig = "vllm: {kv-cache-dtype: fp8}"
		_, err := plan.Make(request, c, vllm.Engine{})
		assert.ErrorContains(t, err, "no attention backend with kv-cache-dtype fp8")
		request.InstanceTypes = []string{"Standard_NC40ads_H100_v5"}
		_, err = plan.Make(request, c, vllm.Engine{})
		assert.NoError(t, err)
	})
	t.Run("28 heads are not cut into 8", func(t *testing.T) {
		t.Parallel()
		p, err := plan.Make(inference("qwen2.5-coder-7b-instruct", "Standard_ND96isr_H100_v5"), c, vllm.Engine{})
		require.NoError(t, err)
		assert.Zero(t, 28%p.TensorParallel)
	})
	t.Run("gpt-oss-120b fits one H100", func(t *testing.T) {
		t.Parallel()
		p, err := plan.Make(inference("gpt-oss-120b", "Standard_NC40ads_H100_v5"), c, vllm.Engine{})
		require.NoError(t, err, "its safetensors are 60.77 GiB, not twice that")
		assert.Equal(t, 1, p.TensorParallel)
	})
	t.Run("the latent cache of MLA is whole on every GPU", func(t *testing.T) {
		t.Parallel()
		p, err := plan.Make(inference("deepseek-v3-0324", "Standard_ND96isr_H200_v5"), c, vllm.Engine{})
		require.NoError(t, err)
		perToken := p.Memory.KVCache / float64(p.MaxModelLen+16)
		assert.InDelta(
			t, 61*(512+64)*2, perToken, 1, "61 layers, rank 512 and 64 rotary, 16 bits, for a tensor parallelism of %d, too",
			p.TensorParallel,
		)
	})
	for name, text := range map[string]string{
		"plain": "vllm:\n  max-model-len: 4096", "quoted": "vllm:\n  \"max-model-len\": \"4096\"", "commented": "vllm:\n  # max-model-len: 99\n  max_model_len: 4096 # enough",
	} {
		t.Run("max-model-len is honoured when it is "+name, func(t *testing.T) {
			t.Parallel()
			request := inference("phi-4", "Standard_NC24ads_A100_v4")
			request.InferenceConfig = text
			p, err := plan.Make(request, c, vllm.Engine{})
			require.NoError(t, err)
			assert.Equal(t, 4096, p.MaxModelLen)
			assert.Equal(t, []string{"4096"}, p.Args["max-model-len"])
		})
	}
	t.Run("a preset without tuning figures is refused, not a panic", func(t *testing.T) {
		t.Parallel()
		_, err := plan.Make(plan.Request{Mode: plan.ModeTuning, Method: "lora", Preset: "deepseek-r1-0528"}, c, vllm.Engine{})
		assert.Equal(t, kaitov1alpha1.ReasonInfeasible, reason(t, err))
	})
}

func tuning(method, preset string, sizes ...string) plan.Request {
	return plan.Request{Mode: plan.ModeTuning, Method: method, Preset: preset, InstanceTypes: sizes}
}

func reason(t *testing.T, err error) string {
	t.Helper()
	var refusal *plan.Refusal
	require.ErrorAs(t, err, &refusal)
	assert.NotEmpty(t, refusal.Message)
	return refusal.Reason
}

func TestRefusalsNameTheFieldTheValueAndTheRemedy(t *testing.T) {
	t.Parallel()
	c := load(t)
	with := func(r plan.Request, change func(*plan.Request)) plan.Request { change(&r); return r }
	for _, tc := range []struct {
		name    string
		request plan.Request
		reason  string
		says    []string
	}{
		{"unknown preset", inference("phi-33"), kaitov1alpha1.ReasonUnknownPreset, []string{"preset.name", "phi-33", "did you mean"}},
		{"unknown size", inference("phi-4", "Standard_NC6"), kaitov1alpha1.ReasonUnknownInstanceType, []string{"resource.instanceType", "Standard_NC6", "did you mean"}},
		{"too large for the size", inference("llama-3.3-70b-instruct", "Standard_NC6s_v3"), kaitov1alpha1.ReasonInfeasible, []string{"GiB", "Standard_NC6s_v3", "Remedy", "What fits: Standard_"}},
		{"too large for any allowed count", with(inference("deepseek-r1-0528"), func(r *plan.Request) { r.Count = count(1) }), "", nil},
		{"the plan's flag in the config", with(inference("phi-4"), func(r *plan.Request) { r.InferenceConfig = "vllm: {tensor-parallel-size: 2}" }), kaitov1alpha1.ReasonInvalidConfig, []string{"tensor-parallel-size", "remove the key"}},
		{"a section that does not exist", with(inference("phi-4"), func(r *plan.Request) { r.InferenceConfig = "vlm: {}" }), kaitov1alpha1.ReasonInvalidConfig, []string{"vlm", "allowed: vllm"}},
		{"no YAML", with(inference("phi-4"), func(r *plan.Request) { r.InferenceConfig = "vllm: [" }), kaitov1alpha1.ReasonInvalidConfig, []string{"inference_config.yaml"}},
		{"a length that does not fit", with(inference("phi-4", "Standard_NC24ads_A100_v4"), func(r *plan.Request) { r.InferenceConfig = "vllm: {max-model-len: 999999}" }), kaitov1alpha1.ReasonInvalidConfig, []string{"999999", "16384"}},
		{"a template without a size", plan.Request{Mode: plan.ModeTemplate}, kaitov1alpha1.ReasonInvalidSpec, []string{"resource.instanceType"}},
		{"a profile that the GPU has not", with(inference("phi-4", "Standard_NC6s_v3"), func(r *plan.Request) { r.MIGProfile = "1g.10gb" }), kaitov1alpha1.ReasonInvalidSpec, []string{"resource.partition.profile"}},
		{"a batch that is not a number", plan.Request{Mode: plan.ModeTuning, Preset: "phi-4", TrainingConfig: "TrainingArguments: {per_device_train_batch_size: many}"}, kaitov1alpha1.ReasonInvalidConfig, []string{"per_device_train_batch_size", "many"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := plan.Make(tc.request, c, vllm.Engine{})
			if tc.reason == "" {
				if err == nil {
					assert.Equal(t, 1, p.Nodes)
				}
				return
			}
			assert.Equal(t, tc.reason, reason(t, err))
			for _, text := range tc.says {
				assert.ErrorContains(t, err, text)
			}
		})
	}
}

func TestRefusalNamesWhatFits(t *testing.T) {
	t.Parallel()
	c := load(t)
	request := inference("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4")
	request.Count = count(1)
	message := refusal(t, c, request).Message
	cheapest, err := plan.Make(inference("llama-3.3-70b-instruct"), c, vllm.Engine{})
	require.NoError(t, err)
	assert.Contains(t, message, fmt.Sprintf(". What fits: %s at $%.2f an hour, with ", cheapest.InstanceType, cheapest.CostPerHour))
	assert.Regexp(t, `; or resource\.count [0-9]+ of Standard_NC24ads_A100_v4 at \$[0-9]+\.[0-9]{2} an hour, with [0-9]+ tokens$`, message)

	request = inference("deepseek-r1-0528")
	request.Forbidden = func(*plan.Plan) string { return "not allowed" }
	assert.NotContains(t, refusal(t, c, request).Message, "What fits", "the budget allows none")
}

func TestRestingChoiceIsSkippedAndRefusalNamesItsEnd(t *testing.T) {
	t.Parallel()
	c := load(t)
	until := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	request := inference("phi-4", "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5")
	a100 := plan.Choice{InstanceType: "Standard_NC24ads_A100_v4", CapacityType: kaitov1alpha1.CapacityOnDemand}
	h100 := plan.Choice{InstanceType: "Standard_NC40ads_H100_v5", CapacityType: kaitov1alpha1.CapacityOnDemand}
	request.Resting = map[plan.Choice]time.Time{a100: until}
	p, err := plan.Make(request, c, vllm.Engine{})
	require.NoError(t, err)
	assert.Equal(t, "Standard_NC40ads_H100_v5", p.InstanceType)

	request.Resting[h100] = until
	_, err = plan.Make(request, c, vllm.Engine{})
	var refusal *plan.Refusal
	require.ErrorAs(t, err, &refusal)
	assert.Equal(t, kaitov1alpha1.ReasonAttemptsExhausted, refusal.Reason)
	assert.Equal(t, until, refusal.Until)
}

func TestWithNoSizeTheCheapestFeasibleIsTaken(t *testing.T) {
	t.Parallel()
	p, err := plan.Make(inference("phi-4-mini-instruct"), load(t), vllm.Engine{})
	require.NoError(t, err)
	for _, c := range p.Candidates {
		if c.Rejected == "" {
			assert.GreaterOrEqual(t, c.CostPerHour, p.CostPerHour, c.InstanceType)
		}
	}
	assert.Equal(t, p.InstanceType, p.Candidates[0].InstanceType, "the chosen one comes first")
}

func draw(t *rapid.T, c *catalog.Catalog) plan.Request {
	models, sizes := c.Models(), c.Sizes()
	r := plan.Request{
		Mode: rapid.SampledFrom([]plan.Mode{plan.ModeInference, plan.ModeTuning}).Draw(t, "mode"),
		Preset: rapid.SampledFrom(models).
			Draw(t, "model").
			ID,
		Method:      rapid.SampledFrom([]string{"lora", "qlora"}).Draw(t, "method"),
		Adapters:    rapid.IntRange(0, 10).Draw(t, "adapters"),
		AdapterRank: rapid.IntRange(0, 256).Draw(t, "rank"),
	}
	if rapid.Bool().Draw(t, "sized") {
		r.InstanceTypes = []string{rapid.SampledFrom(sizes).Draw(t, "size").Name}
	}
	if rapid.Bool().Draw(t, "cut") {
		r.MIGProfile = rapid.SampledFrom([]string{"1g.10gb", "2g.20gb", "3g.40gb", "4g.47gb", "7g.80gb", "1g.35gb"}).
			Draw(t, "profile")
	}
	if rapid.Bool().Draw(t, "part") {
		r.Slices = rapid.IntRange(0, 9).Draw(t, "slices")
	}
	if rapid.Bool().Draw(t, "counted") {
		r.Count = count(rapid.IntRange(1, 8).Draw(t, "count"))
	}
	if rapid.Bool().Draw(t, "configured") {
		r.InferenceConfig = fmt.Sprintf("vllm: {max-model-len: %d}", rapid.IntRange(1, 200000).Draw(t, "length"))
	}
	return r
}

func TestAPlanKeepsItsPromises(t *testing.T) {
	t.Parallel()
	c := load(t)
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t, c)
		p, err := plan.Make(r, c, vllm.Engine{})
		again, errAgain := plan.Make(r, c, vllm.Engine{})
		require.Equal(t, p, again, "the same question has the same answer")
		require.Equal(t, err, errAgain)
		if err != nil {
			return
		}
		assert.Zero(t, p.Model.Heads%p.TensorParallel, "tensor parallelism divides the heads")
		assert.Zero(t, 64%p.TensorParallel, "and the vocabulary, which the engine pads to a multiple of 64")
		if r.Mode == plan.ModeInference {
			assert.Equal(t, p.TensorParallel*p.DataParallel, p.GPUsPerNode, "every GPU that is asked for works")
			assert.Equal(t, p.Nodes, p.PipelineParallel)
			if p.Engine.Version == "0.10.2" {
				assert.Equal(
					t, [2]int{1, 1}, [2]int{p.Nodes, p.DataParallel},
					"V0 has no copies behind one server, and no pipeline across nodes",
				)
			}
			if r.InferenceConfig != "" {
				assert.Equal(
					t, fmt.Sprintf("vllm: {max-model-len: %d}", p.MaxModelLen), r.InferenceConfig,
					"what the user asks for is what is planned",
				)
			}
		}
		if p.Size.MIGProfile != "" {
			assert.Equal(t, 1, p.GPUsPerNode, "a process sees one MIG instance")
		}
		m := p.Memory
		assert.GreaterOrEqual(t, m.Free, 0.0)
		assert.InDelta(t, m.Usable, m.Weights+m.KVCache+m.Activations+m.Free, 1)
		assert.InDelta(t, p.Size.DeviceGiB*plan.GiB, m.Usable+m.Overhead, 1)
		if r.Count != nil {
			assert.LessOrEqual(t, p.Nodes, *r.Count, "the user's count is an upper bound")
		}
	})
}

func TestMoreMemoryNeverCostsFeasibility(t *testing.T) {
	t.Parallel()
	c := load(t)
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t, c)
		size := rapid.SampledFrom(c.Sizes()).Draw(t, "base")
		r.InstanceTypes, r.Sizes = nil, []catalog.Size{size}
		before, err := plan.Make(r, c, vllm.Engine{})
		if err != nil {
			return
		}
		size.DeviceGiB += rapid.Float64Range(0, 200).Draw(t, "more")
		r.Sizes = []catalog.Size{size}
		after, err := plan.Make(r, c, vllm.Engine{})
		require.NoError(t, err)
		require.LessOrEqual(t, after.Nodes, before.Nodes)
		if after.Nodes == before.Nodes {
			assert.GreaterOrEqual(t, after.MaxModelLen, before.MaxModelLen)
		}
	})
}

func FuzzConfigsNeverPanic(f *testing.F) {
	c := load(f)
	f.Add("vllm: {max-model-len: 1}", "LoraConfig: {r: 8}")
	f.Add("vllm:\n  x: [1, {a: b}]", "training_config: {TrainingArguments: {max_length: 0}}")
	f.Fuzz(func(t *testing.T, inferenceConfig, trainingConfig string) {
		_, err := plan.Make(plan.Request{Mode: plan.ModeInference, Preset: "phi-4", InferenceConfig: inferenceConfig}, c, vllm.Engine{})
		var refusal *plan.Refusal
		if err != nil {
			require.ErrorAs(t, err, &refusal)
		}
		_, err = plan.Make(
			plan.Request{Mode: plan.ModeTuning, Method: "lora", Preset: "phi-4", TrainingConfig: trainingConfig}, c, vllm.Engine{},
		)
		if err != nil {
			require.ErrorAs(t, err, &refusal)
		}
	})
}
