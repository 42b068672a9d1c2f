// SPDX-License-Identifier: Apache-2.0

package vllm_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/engine/vllm"
)

// TestShapesAgreeWithTheCatalogue: what the engine says about a model, and what the catalogue says, without Python.
func TestShapesAgreeWithTheCatalogue(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	require.NoError(t, err)
	newest := c.Engines()[0]
	known := 0
	for _, m := range c.Models() {
		s := vllm.Engine{}.Shape(m, newest, catalog.ComputeCapability{Major: 9})
		if s == nil {
			continue
		}
		known++
		assert.Equal(t, m.Hidden, s.Hidden, m.ID)
		served := false
		for tensor, share := range s.GPUs {
			served = served || share.Adapter > 0
			assert.NotEmpty(t, share.Groups["auto"], "%s on %d GPUs", m.ID, tensor)
			for stages, each := range share.Pipelines {
				for _, stage := range each {
					assert.Positive(t, stage.Weights, "%s on %d GPUs, %d stages", m.ID, tensor, stages)
					for kind := range share.Groups {
						assert.Positive(t, stage.Block[kind], "%s on %d GPUs, %d stages", m.ID, tensor, stages)
					}
				}
			}
		}
		require.NotEmpty(t, s.GPUs, m.ID)
		assert.Equal(t, m.NoLoRA, !served, "%s: noLoRA", m.ID)
		if share, alone := s.GPUs[1]; alone {
			// The files also have what the engine does not load, such as layers that guess several tokens.
			assert.InEpsilon(t, m.WeightsBytes, share.Pipelines[1][0].Weights, 0.17, m.ID)
		}
	}
	assert.Equal(t, 58, known)
	older := c.Engines()[len(c.Engines())-1]
	another := mustModel(t, c, "phi-4")
	another.Hidden++
	assert.Nil(t, vllm.Engine{}.Shape(another, newest, catalog.ComputeCapability{Major: 9}), "an administrator's model")
	assert.Nil(t, vllm.Engine{}.Shape(mustModel(t, c, "phi-4"), older, catalog.ComputeCapability{Major: 7}), "0.10.2 was not asked")
}

func mustModel(t *testing.T, c *catalog.Catalog, name string) catalog.Model {
	t.Helper()
	m, err := c.Model(name)
	require.NoError(t, err)
	return m
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	groups := []engine.Group{{Tokens: 16}, {Tokens: 16, Window: 1024, Fixed: 1}, {Fixed: 2}}
	for _, tc := range []struct{ tokens, inFlight, want int }{
		{1, 4096, 1 + 2 + 2},
		{17, 4096, 2 + 3 + 2},
		{1000, 0, 63 + 64 + 2},                           // a window longer than the sequence
		{100000, 4096, 6250 + (1023+4096+15)/16 + 1 + 2}, // the window and what is in flight
	} {
		assert.Equal(t, tc.want, engine.Blocks(groups, tc.tokens, tc.inFlight), "%d tokens, %d in flight", tc.tokens, tc.inFlight)
	}
}
