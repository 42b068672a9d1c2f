// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
)

const tiny = `
models:
- id: acme/Tiny-1B
  aliases: [tiny]
  architecture: LlamaForCausalLM
  weightsGiB: 2
  context: 4096
  hidden: 2048
  layers: 16
  heads: 32
  kvHeads: 8
`

func TestOverridesAddAndReplace(t *testing.T) {
	c := load(t, tiny, `
sizes:
- name: Standard_NC6s_v3
  gpus: 1
  gpu: V100
  memoryGiB: 16
  deviceGiB: 15.5
  capability: "7.0"
  vcpus: 6
  ramGiB: 112
  quotaFamily: standardNCSv3Family
  utilization: 0.8
prices:
  date: "2026-11-01"
  onDemand:
    Standard_NC6s_v3: {eastus: 4.00}
`, "", "# only a comment\n")

	m, err := c.Model("tiny")
	require.NoError(t, err)
	assert.Equal(t, 64, m.HeadDim, "hidden / heads")
	assert.Equal(t, 16, m.Attention.FullLayers, "all layers have a cache by default")

	s, err := c.Size("Standard_NC6s_v3")
	require.NoError(t, err)
	assert.InDelta(t, 12.4, s.UsableGiB(), 1e-9)
	price, _ := c.Price("Standard_NC6s_v3", "eastus", catalog.CapacityOnDemand)
	assert.Equal(t, catalog.Price{USDPerHour: 4, Date: "2026-11-01"}, price)
	other, found := c.Price("Standard_NC6s_v3", "westus2", catalog.CapacityOnDemand)
	assert.True(t, found, "prices are replaced one by one, got %v", other)
	require.Len(t, c.Sizes(), 30, "the override replaced a size")
}

func TestSchemaErrorsNameTheLine(t *testing.T) {
	for name, tc := range map[string]struct {
		document string
		want     catalog.SchemaError
	}{
		"an unknown field": {
			"models:\n- id: a/b\n  layerz: 3\n",
			catalog.SchemaError{Line: 3, Field: "models[0].layerz", Value: "layerz"},
		},
		"an invalid number": {
			"models:\n- id: a/b\n  layers: many\n",
			catalog.SchemaError{Line: 3, Field: "models[0].layers", Value: "many", Allowed: "a whole number from 1 to 1024"},
		},
		"a negative figure": {
			"prices:\n  date: \"2026-01-01\"\n  onDemand:\n    Standard_X: {eastus: -1}\n",
			catalog.SchemaError{Line: 4, Field: "prices.onDemand.Standard_X.eastus", Value: "-1", Allowed: "a number above 0, at most 10000"},
		},
		"not a number at all": {
			"prices:\n  date: \"2026-01-01\"\n  onDemand:\n    Standard_X: {eastus: .nan}\n",
			catalog.SchemaError{Line: 4, Field: "prices.onDemand.Standard_X.eastus", Value: ".nan", Allowed: "a number above 0, at most 10000"},
		},
		"a date in another form": {
			"prices:\n  date: 18 June\n  onDemand: {}\n",
			catalog.SchemaError{Line: 2, Field: "prices.date", Value: "18 June", Allowed: "a day, YYYY-MM-DD"},
		},
		"a value that is required": {
			"sizes:\n- name: Standard_X\n",
			catalog.SchemaError{Line: 2, Field: "sizes[0].gpus", Value: "missing", Allowed: "any value: the field is required"},
		},
		"a field given twice": {
			"models:\n- id: a/b\n  layers: 3\n  layers: 4\n",
			catalog.SchemaError{Line: 4, Field: "models[0].layers", Value: "layers"},
		},
		"a mapping instead of a list": {
			"models: {}\n",
			catalog.SchemaError{Line: 1, Field: "models", Value: "a mapping", Allowed: "a list"},
		},
		"an alias of another model": {
			tiny + "- id: acme/Other\n  aliases: [phi-2]\n  architecture: X\n  weightsGiB: 1\n  context: 1\n  hidden: 64\n  layers: 1\n  heads: 1\n  kvHeads: 1\n",
			catalog.SchemaError{Line: 13, Field: "models.aliases", Value: "phi-2"},
		},
		"latent attention without its ranks": {
			tiny + "  attention: {kind: mla}\n",
			catalog.SchemaError{Line: 3, Field: "models[0].attention", Value: "mla", Allowed: "mla with loraRank and ropeDim (model acme/Tiny-1B)"},
		},
		"more layers with a cache than layers": {
			tiny + "  attention: {fullLayers: 16, slidingLayers: 1, window: 8}\n",
			catalog.SchemaError{Line: 3, Field: "models[0].attention", Value: "17", Allowed: "at most 16 layers with a cache (model acme/Tiny-1B)"},
		},
		"invalid YAML": {
			"models:\n  - [\n",
			catalog.SchemaError{Line: 2, Field: "document", Allowed: "YAML"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := catalog.Load([]byte(tc.document))
			var schema *catalog.SchemaError
			require.ErrorAs(t, err, &schema)
			assert.Equal(t, "override 1", schema.File)
			assert.Equal(t, tc.want.Line, schema.Line, err)
			assert.Equal(t, tc.want.Field, schema.Field, err)
			if tc.want.Value != "" {
				assert.Equal(t, tc.want.Value, schema.Value, err)
			}
			if tc.want.Allowed != "" {
				assert.Equal(t, tc.want.Allowed, schema.Allowed, err)
			}
		})
	}
}

func FuzzLoadNeverPanics(f *testing.F) {
	f.Add([]byte(tiny))
	f.Add([]byte("models: [{id: a/b, aliases: [{}]}]"))
	f.Add([]byte("prices: {date: '2026-01-01', onDemand: {x: {y: 1e999}}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, document []byte) {
		_, err := catalog.Load(document)
		if err != nil {
			var schema *catalog.SchemaError
			require.ErrorAs(t, err, &schema)
		}
	})
}
