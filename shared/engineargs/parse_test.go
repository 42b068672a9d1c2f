// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	args, err := table(t, newest).Parse(strings.Fields(
		`org/model --max_model_len=-1 -tp 2 --served-model-name a b --enable-lora --no-enforce-eager --max-num-seq 7
		--lora-modules x=/x {"name":"y","path":"/y"} --compilation-config.pass_config.fuse_norm_quant true
		--compilation-config.cudagraph_capture_sizes+ 1,2 --compilation-config.compile_cache_save_format=binary --seed -3`))
	require.NoError(t, err)
	assert.Equal(t, Arguments{Model: "org/model", Values: map[string][]string{
		"max-model-len": {"-1"}, "tensor-parallel-size": {"2"}, "served-model-name": {"a", "b"}, "enable-lora": {"true"},
		"enforce-eager": {"false"}, "max-num-seqs": {"7"}, "lora-modules": {"x=/x", `{"name":"y","path":"/y"}`}, "seed": {"-3"},
		"compilation-config": {`{"compile_cache_save_format":"binary","cudagraph_capture_sizes":["1","2"],"pass_config":{"fuse_norm_quant":true}}`},
	}}, args)
}

func TestParseRefuses(t *testing.T) {
	for line, says := range map[string]string{
		"m --max-model-length 5":         "unrecognized arguments: --max-model-length",
		"m n":                            "unrecognized arguments: n",
		"m --max-model-len many":         "argument --max-model-len: invalid value",
		"m --max-model-len":              "expected one argument",
		"m --enable-lora yes":            "unrecognized arguments: yes",
		"m --trust-remote-code=1":        "ignored explicit argument",
		"m --served-model-name":          "expected at least one",
		"m --lora-modules dolly":         "NAME=PATH",
		`m --lora-modules {"name":"a"}`:  "NAME=PATH",
		"m --max-n 1":                    "is the beginning of",
		"m --compilation-config.level":   "expected one argument",
		"m --compilation-config.nope 1":  "nope",
		"m --kv-cache-dtype int4":        "allowed: auto",
		"m --swap-space 4":               "unrecognized arguments: --swap-space",
		"m --tensor-parallel-size=two":   "allowed: a whole number",
		"m --dtype=float8":               "allowed: auto",
		"m -xyz 1":                       "unrecognized arguments: -xyz",
		"m --gpu-memory-utilization=0,9": "allowed: a number",
	} {
		_, err := table(t, newest).Parse(strings.Fields(line))
		assert.ErrorContains(t, err, says, line)
	}
}
