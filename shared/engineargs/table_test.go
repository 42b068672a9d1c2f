// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
)

const newest = "0.32.0"

func table(t *testing.T, version string) *Table {
	t.Helper()
	found, err := For(version)
	require.NoError(t, err)
	return found
}

// TestEveryRelease guards against a table that a new release lacks, or that has a kind that nothing checks.
func TestEveryRelease(t *testing.T) {
	c, err := catalog.Load()
	require.NoError(t, err)
	for _, e := range c.Engines() {
		found := table(t, e.Version)
		assert.Greater(t, len(found.Flags), 150, e.Version)
		for _, f := range found.Flags {
			assert.Contains(t, []Kind{
				KindInt, KindFloat, KindText, KindTokens, KindTokensOrAuto, KindJSON, KindJSONOrText, KindObject,
				KindSwitch, KindOnlyOn, KindFolded, KindLora,
			}, f.Kind, f.Name)
			assert.Contains(t, []string{"", "1", "?", "+", "*"}, f.Values, f.Name)
			if f.Kind == KindObject {
				_, err := f.schema()
				assert.NoError(t, err, f.Name)
			}
		}
	}
	_, err = For("0.0.1")
	assert.ErrorContains(t, err, "make catalogue")
}

// TestRemoved: what is said to be removed is unknown to the newest release, and each flag that the release before had
// has an entry.
func TestRemoved(t *testing.T) {
	now, before := table(t, newest), table(t, "0.10.2")
	for name := range removed {
		_, known := now.Flag(name)
		assert.False(t, known, name)
	}
	for _, f := range before.Flags {
		if _, known := now.Flag(f.Name); !known {
			assert.Contains(t, removed, f.Name)
		}
	}
}

func TestSetting(t *testing.T) {
	type values = []string
	for _, tc := range []struct {
		key   string
		value any
		name  string // empty: left out
		want  values
	}{
		{"max-num-seqs", 64.0, "max-num-seqs", values{"64"}},
		{"max_num_seqs", "64", "max-num-seqs", values{"64"}},
		{"max-num-seq", 64.0, "max-num-seqs", values{"64"}}, // the parser completes it
		{"cudagraph-capture-sizes", []any{1.0, 2.0, 4.0}, "cudagraph-capture-sizes", values{"1", "2", "4"}},
		{"cudagraph-capture-sizes", 8.0, "cudagraph-capture-sizes", values{"8"}},
		{"allowed-origins", []any{"https://a.example"}, "allowed-origins", values{`["https://a.example"]`}},
		{"enable_prefix_caching", false, "no-enable-prefix-caching", nil},
		{"enable-prefix-caching", "false", "no-enable-prefix-caching", nil},
		{"enable-prefix-caching", "True", "enable-prefix-caching", nil},
		{"no-enable-prefix-caching", true, "no-enable-prefix-caching", nil},
		{"no-enable-prefix-caching", false, "enable-prefix-caching", nil},
		{"enforce-eager", nil, "enforce-eager", nil},
		{"disable-log-stats", true, "disable-log-stats", nil},
		{"disable-log-stats", false, "", nil},
		{"compilation-config.pass_config.fuse_norm_quant", true, "compilation-config.pass_config.fuse_norm_quant", values{"true"}},
		{"compilation_config.cudagraph_capture_sizes+", "1,2", "compilation-config.cudagraph_capture_sizes+", values{"1,2"}},
		{"kernel-config", map[string]any{"moe_backend": "triton"}, "kernel-config", values{`{"moe_backend":"triton"}`}},
		{"moe-backend", "Deep-Gemm", "moe-backend", values{"Deep-Gemm"}},
		{"max-num-batched-tokens", "8K", "max-num-batched-tokens", values{"8K"}},
		{"kv-cache-memory-bytes", "1.5g", "kv-cache-memory-bytes", values{"1.5g"}},
		{"hf-overrides", map[string]any{"a": "<&>"}, "hf-overrides", values{`{"a":"<&>"}`}},
		{"quantization", "", "quantization", values{""}},
		{"gpu-memory-utilization", 1e-7, "gpu-memory-utilization", values{"1e-07"}},
		{"chat-template", "7", "chat-template", values{"7"}},
	} {
		t.Run(tc.key, func(t *testing.T) {
			got, err := table(t, newest).Setting(tc.key, tc.value)
			require.NoError(t, err)
			if tc.name == "" {
				assert.Nil(t, got)
				return
			}
			assert.Equal(t, tc.name, got.Name)
			assert.Equal(t, tc.want, got.Values)
		})
	}
}

func TestSettingIsRefused(t *testing.T) {
	for _, tc := range []struct {
		key   string
		value any
		says  string
	}{
		{"max-num-sequences", 1.0, "did you mean max-num-seqs"},
		{"swap-space", 4.0, "preempted requests are recomputed"},
		{"swap_space", 4.0, "remove the key"},
		{"no-disable-log-requests", true, "enable-log-requests"},
		{"max-num", 1.0, "is the beginning of --max-num-"},
		{"max-num-seqs", 1.5, `is "1.5"; allowed: a whole number`},
		{"max-num-seqs", "8K", "allowed: a whole number"},
		{"max-num-seqs", true, "allowed: a whole number"},
		{"max-num-seqs", nil, `is "null"`},
		{"max-num-seqs", []any{1.0, 2.0}, `is "[1,2]"`},
		{"max-num-batched-tokens", "1.5K", "8K (8192)"},
		{"enforce-eager", "maybe", `is "maybe"; allowed: true, false`},
		{"enforce-eager", 1.0, "allowed: true, false"},
		{"kv-cache-dtype", "int4", "allowed: auto, bfloat16"},
		{"cudagraph-capture-sizes", []any{}, "at least one value"},
		{"cudagraph-capture-sizes", []any{"many"}, `is "many"`},
		{"kernel-config", map[string]any{"moe_backends": 1}, "moe_backends"},
		{"kernel-config", "fast", `is "fast"; allowed: a map`},
		{"eplb-config.window", 5.0, "window"},
		{"max-num-seqs.x", 1.0, "has no fields"},
		{"hf-overrides", "{a: 1}", "allowed: a text, or a JSON object"},
	} {
		t.Run(tc.key, func(t *testing.T) {
			_, err := table(t, newest).Setting(tc.key, tc.value)
			require.ErrorContains(t, err, tc.says)
			assert.NotContains(t, err.Error(), "/", "no path of this machine")
		})
	}
}

func TestReleasesDiffer(t *testing.T) {
	_, err := table(t, "0.10.2").Setting("swap-space", 4.0)
	require.NoError(t, err)
	_, err = table(t, "0.10.2").Setting("cudagraph-capture-sizes", 4.0)
	assert.ErrorContains(t, err, "vLLM 0.10.2 has no such flag")
}

// TestFloats: what Python's float() reads.
func TestFloats(t *testing.T) {
	f, _ := table(t, newest).Flag("gpu-memory-utilization")
	for _, text := range []string{"0.9", ".5", "5.", " 1e-1 ", "1_0.5", "-inf", "NaN", "Infinity", "+1E5"} {
		assert.NoError(t, f.check(text), text)
	}
	for _, text := range []string{"", ".", "e5", "1e", "0x1", "1__0", "0,9", "90%", "infin"} {
		assert.Error(t, f.check(text), text)
	}
}

func TestClosest(t *testing.T) {
	for version, want := range map[string]string{
		"0.32.0": "0.32.0", "0.33.1": "0.32.0", "1.0.0": "0.32.0", "0.31.9": "0.10.2", "0.10.2": "0.10.2", "0.9.0": "0.10.2",
	} {
		got, err := Closest(version)
		require.NoError(t, err)
		assert.Equal(t, want, got.Version, version)
	}
}

func TestTokens(t *testing.T) {
	for text, want := range map[string]int64{
		"8192": 8192, "8k": 8000, "8K": 8192, "1.5k": 1500, "2M": 2 << 20, " 1_000 ": 1000, "-1": -1,
	} {
		got, ok := Tokens(text)
		assert.True(t, ok, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "k", "1.5", "1.5K", "8kk", "99999999999T", "many"} {
		_, ok := Tokens(text)
		assert.False(t, ok, text)
	}
}
