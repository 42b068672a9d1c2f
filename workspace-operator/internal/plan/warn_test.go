// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	c := load(t)
	retired := mustPlan(t, c, inference("phi-4-mini-instruct", "Standard_NC6s_v3"))
	assert.Equal(t, "Standard_NC6s_v3", retired.InstanceType, "a wish of the user's")
	assert.Contains(t, retired.Warnings, "Azure has retired Standard_NC6s_v3 on 2025-09-30, and creates none any more: use Standard_NC24ads_A100_v4")

	short := mustPlan(t, c, inference("llama-3.1-8b-instruct", "Standard_NV36ads_A10_v5", "Standard_NC24ads_A100_v4"))
	assert.Regexp(
		t, `^the context is \d+ of the model's 131072 tokens; 1 × Standard_NC24ads_A100_v4 holds the whole, at \$\d+\.\d\d an hour$`,
		short.Warnings[0],
	)
	assert.Empty(t, mustPlan(t, c, inference("llama-3.1-8b-instruct", "Standard_NC24ads_A100_v4")).Warnings)
}

// TestSizesWithNeedsArePlannedOnlyByName: a cluster that lacks what they need would have nodes that serve nothing.
func TestSizesWithNeedsArePlannedOnlyByName(t *testing.T) {
	t.Parallel()
	c := load(t)
	named := mustPlan(t, c, inference("llama-3.1-8b-instruct", "Standard_NC36lds_xl_RTXPRO6000BSE_v6"))
	assert.Equal(
		t, []string{"nodes of size Standard_NC36lds_xl_RTXPRO6000BSE_v6 need NVIDIA's device plugin with MIG_STRATEGY=single"},
		named.Warnings[:1],
	)
	cheapest := mustPlan(t, c, inference("llama-3.1-8b-instruct"))
	for _, candidate := range cheapest.Candidates {
		size, err := c.Size(candidate.InstanceType)
		assert.NoError(t, err)
		assert.Empty(t, size.Needs, size.Name)
	}
	assert.Greater(t, cheapest.CostPerHour, named.CostPerHour, "it would be chosen for its price")
}

// TestRetiredSizesAreTheLastChoice: Azure creates none, so they are planned only where nothing else fits.
func TestRetiredSizesAreTheLastChoice(t *testing.T) {
	t.Parallel()
	c := load(t)
	retired := 0
	for _, size := range c.Sizes() {
		if size.Retired == "" {
			continue
		}
		retired++
		replacement, err := c.Size(size.ReplacedBy)
		assert.NoError(t, err, size.Name)
		assert.Empty(t, replacement.Retired, size.Name)
	}
	assert.Equal(t, 4, retired, "the NCv3 series")
	for _, m := range c.Models() {
		if p, err := plan.Make(inference(m.ID), c, vllm.Engine{}); err == nil {
			assert.Empty(t, p.Size.Retired, m.ID)
		}
	}
}
