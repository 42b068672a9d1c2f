// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
)

func load(t *testing.T, overrides ...string) *catalog.Catalog {
	t.Helper()
	documents := make([][]byte, 0, len(overrides))
	for _, o := range overrides {
		documents = append(documents, []byte(o))
	}
	c, err := catalog.Load(documents...)
	require.NoError(t, err)
	return c
}

func TestEmbeddedModelsAreConsistent(t *testing.T) {
	c := load(t)
	models := c.Models()
	require.Len(t, models, 65, "the 60 curated models and the five older presets")

	seen := map[string]string{}
	for _, m := range models {
		for _, alias := range m.Aliases {
			assert.Empty(t, seen[alias], "alias %s of %s is taken", alias, m.ID)
			seen[alias] = m.ID
		}
		assert.Positive(t, m.WeightsBytes, m.ID)
		assert.Positive(t, m.Context, m.ID)
		assert.Positive(t, m.HeadDim, m.ID)
		assert.Zero(t, m.Heads%m.KVHeads, "%s: %d heads share %d KV heads", m.ID, m.Heads, m.KVHeads)
		assert.Positive(t, m.Attention.FullLayers, m.ID)
		if m.Quant.Method != "" {
			_, known := c.Quantization(m.Quant.Method)
			assert.True(t, known, "%s: quantization %s has no entry in engines.yaml", m.ID, m.Quant.Method)
		}
		if m.Engine.ReasoningParser == "" && m.Engine.ToolCallParser == "" {
			assert.Empty(t, m.Engine.Extra, m.ID)
		}
	}
}

func TestSizesOfGptOss(t *testing.T) {
	c := load(t)
	for name, gib := range map[string]float64{"gpt-oss-20b": 12.9, "gpt-oss-120b": 60.77} {
		m, err := c.Model(name)
		require.NoError(t, err)
		assert.InDelta(t, gib, float64(m.WeightsBytes)/(1<<30), 0.001, name)
	}
}

func TestParametersFollowFromWeights(t *testing.T) {
	c := load(t)
	for name, billions := range map[string]float64{
		"phi-3-mini-128k-instruct": 3.82, "llama-3.1-8b-instruct": 8.03, "falcon-40b": 41.3, "phi-2": 2.78,
		"deepseek-r1-0528": 685,
	} {
		m, err := c.Model(name)
		require.NoError(t, err)
		assert.InEpsilon(t, billions, float64(m.Params())/1e9, 0.02, "%s: billions of parameters", name)
	}
}

func TestModelsAreFoundByKAITONames(t *testing.T) {
	c := load(t)
	const id = "microsoft/Phi-3-mini-128k-instruct"
	for _, name := range []string{
		"phi-3-mini-128k-instruct", "Phi-3-Mini-128K-Instruct", id, strings.ToLower(id), " phi-3-mini-128k-instruct ",
	} {
		m, err := c.Model(name)
		require.NoError(t, err, name)
		assert.Equal(t, id, m.ID)
		assert.Equal(t, "072cb7562cb8c4adf682a8e186aaafa49469eb5d", m.Revision, "the catalogue's pin")
	}
	m, err := c.Model(id + "@main")
	require.NoError(t, err)
	assert.Equal(t, "main", m.Revision, "the user's pin wins")

	deprecated, err := c.Model("phi-2")
	require.NoError(t, err, "a deprecated name stays accepted")
	assert.True(t, deprecated.Deprecated)

	gemma, err := c.Model("gemma-3-4b-instruct")
	require.NoError(t, err, "KAITO's short name differs from the repository's")
	assert.Equal(t, "google/gemma-3-4b-it", gemma.ID)
}

func TestUnknownNamesSuggestTheClosest(t *testing.T) {
	c := load(t)
	var unknown *catalog.UnknownModelError

	_, err := c.Model("phi-3-mini-128-instruct")
	require.ErrorAs(t, err, &unknown)
	assert.Equal(t, "phi-3-mini-128k-instruct", unknown.Suggestions[0])
	assert.Contains(t, err.Error(), "did you mean phi-3-mini-128k-instruct")

	_, err = c.Model("zzzzzzzzzzzzzzzzzzz")
	require.ErrorAs(t, err, &unknown)
	assert.Empty(t, unknown.Suggestions, "nothing is near")

	var size *catalog.UnknownSizeError
	_, err = c.Size("Standard_NC6_v3")
	require.ErrorAs(t, err, &size)
	assert.Equal(t, "Standard_NC6s_v3", size.Suggestions[0])
}

func TestInvalidReferencesAreRefused(t *testing.T) {
	for _, s := range []string{"", "@main", "org/model@", "org/model@../x", "org/model@--flag", "a/b/c", "org/ model", "org/model@a@b", "-x"} {
		_, err := catalog.ParseReference(s)
		var reference *catalog.ReferenceError
		assert.ErrorAs(t, err, &reference, "%q", s)
	}
	ref, err := catalog.ParseReference("org/model@refs/pr/2")
	require.NoError(t, err)
	assert.Equal(t, catalog.Reference{Name: "org/model", Revision: "refs/pr/2"}, ref)
	assert.True(t, ref.IsRepository())
}

func TestASizeIsFoundByItsAlias(t *testing.T) {
	t.Parallel()
	c := load(t)
	s, err := c.Size("standard_nd96asr_a100_v4")
	require.NoError(t, err)
	assert.Equal(t, "Standard_ND96asr_v4", s.Name, "the name that Azure has")
}

func TestSizesHavePricesAndEngines(t *testing.T) {
	c := load(t)
	require.Len(t, c.Sizes(), 30)
	for _, s := range c.Sizes() {
		assert.Greater(t, s.MemoryGiB, s.DeviceGiB, "%s: CUDA reports less than what is sold", s.Name)
		assert.Greater(t, s.DeviceGiB, 0.9*s.MemoryGiB, s.Name)
		assert.Less(t, s.UsableGiB(), s.DeviceGiB, s.Name)
		price, found := c.LowestPrice(s.Name)
		assert.True(t, found, "%s has no price anywhere", s.Name)
		assert.Positive(t, price.USDPerHour, s.Name)
		_, err := c.Engine(s.Capability)
		assert.NoError(t, err, s.Name)
		same, err := c.Size(strings.ToUpper(s.Name))
		require.NoError(t, err)
		assert.Equal(t, s, same)
	}
}

func TestPricesByRegion(t *testing.T) {
	c := load(t)
	price, found := c.Price("standard_nc6s_v3", "East US", catalog.CapacityOnDemand)
	require.True(t, found)
	assert.Equal(t, catalog.Price{USDPerHour: 3.06, Date: "2026-06-18"}, price)

	spot, found := c.Price("Standard_NC6s_v3", "eastus", catalog.CapacitySpot)
	require.True(t, found)
	assert.True(t, spot.Ceiling, "spot is never more than on-demand")

	_, found = c.Price("Standard_ND96isr_H200_v5", "eastus", catalog.CapacityOnDemand)
	assert.False(t, found, "H200 is not sold in eastus")
	assert.True(t, c.KnowsRegion("eastus"))
	assert.False(t, c.KnowsRegion("atlantis"))
}

func TestEnginesByComputeCapability(t *testing.T) {
	c := load(t)
	for capability, want := range map[string]string{"7.0": "0.10.2", "7.2": "0.10.2", "7.5": "0.32.0", "8.0": "0.32.0", "8.9": "0.32.0", "12.0": "0.32.0"} {
		cc, err := catalog.ParseComputeCapability(capability)
		require.NoError(t, err)
		e, err := c.Engine(cc)
		require.NoError(t, err, capability)
		assert.Equal(t, want, e.Version, capability)
		assert.Regexp(t, ":v"+want+"(@sha256:[0-9a-f]{64})?$", e.Image, "a release's tag, with or without its digest")
		assert.Equal(
			t, !cc.Less(catalog.ComputeCapability{Major: 8}), contains(e.Dtypes, "bfloat16"), "bfloat16 on %s", capability,
		)
	}
	_, err := c.Engine(catalog.ComputeCapability{Major: 6, Minor: 1})
	var unsupported *catalog.UnsupportedCapabilityError
	require.ErrorAs(t, err, &unsupported)
	assert.Equal(t, "7.0", unsupported.Minimum.String())
}

func TestMIGProfilesAreSizes(t *testing.T) {
	c := load(t)
	whole, err := c.Size("Standard_NC24ads_A100_v4")
	require.NoError(t, err)
	for _, p := range c.MIGProfiles(whole) {
		assert.LessOrEqual(t, p.Instances*p.Slices, 8, "%s: a GPU's memory has eight slices", p.Name)
	}
	for _, spelling := range []string{"1g.10gb", "1G.10GB", "mig-1g.10gb"} {
		part, err := c.Partition(whole, spelling)
		require.NoError(t, err, spelling)
		assert.Equal(t, 7, part.GPUs)
		assert.Equal(t, 1, part.PhysicalGPUs)
		assert.InDelta(t, 9.50, part.DeviceGiB, 0.02, "nvidia-smi mig -lgip prints 9.50 GiB")
	}
	var refused *catalog.PartitionError
	_, err = c.Partition(whole, "1g.5gb")
	require.ErrorAs(t, err, &refused)
	assert.Contains(t, refused.Allowed, "3g.40gb")
	t4, err := c.Size("Standard_NC4as_T4_v3")
	require.NoError(t, err)
	_, err = c.Partition(t4, "1g.10gb")
	require.ErrorAs(t, err, &refused)
	assert.Empty(t, refused.Allowed)
}

func TestResultsAreCopies(t *testing.T) {
	c := load(t)
	m, err := c.Model("phi-3-mini-128k-instruct")
	require.NoError(t, err)
	m.Aliases[0] = "x"
	m.Tuning.Vocab = 0
	qwen, err := c.Model("Qwen/Qwen3.5-9B")
	require.NoError(t, err)
	qwen.Engine.Extra["gdn-prefill-backend"] = "x"
	e, err := c.Engine(catalog.ComputeCapability{Major: 7})
	require.NoError(t, err)
	e.Env["VLLM_USE_V1"] = "1"
	e.Dtypes[0] = "x"

	assert.Equal(t, load(t).Models(), c.Models())
	assert.Equal(t, load(t).Engines(), c.Engines())
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}
