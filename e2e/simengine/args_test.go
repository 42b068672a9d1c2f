// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parse(line string, env map[string]string) (Options, string, error) {
	return ParseArgs(strings.Fields(line), func(name string) string { return env[name] })
}

func TestAPodsArgumentsAreRead(t *testing.T) {
	opts, address, err := parse(
		`vllm serve microsoft/Phi-3-mini-128k-instruct --host 127.0.0.1 --port=8000 --served-model-name workspace-phi-3 phi-3-mini-128k-instruct
		--max-model-len 2048 --max_num_seqs 64 --enable-lora --max-loras 2 --max-lora-rank 16 --lora-modules dolly=/adapters/dolly {"name":"b","path":"/b"}
		--tensor-parallel-size 2 --gpu-memory-utilization 0.9 --dtype bfloat16 --trust-remote-code
		--sim-load-time=30s --sim-first-token=200ms --sim-each-token=20ms --sim-unhealthy --sim-fail-requests=3 --sim-cut-after-tokens=5`,
		map[string]string{"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_SERVER_DEV_MODE": "1"},
	)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:8000", address)
	assert.Equal(t, Options{
		ServedNames: []string{"workspace-phi-3", "phi-3-mini-128k-instruct"}, Release: "0.32.0", Model: "microsoft/Phi-3-mini-128k-instruct",
		Adapters:    []Adapter{{Name: "dolly", Path: "/adapters/dolly"}, {Name: "b", Path: "/b"}},
		MaxModelLen: 2048, MaxNumSeqs: 64, MaxLoras: 2, EnableLoRA: true, RuntimeLoRA: true, DevMode: true,
		LoadTime: 30 * time.Second, FirstToken: 200 * time.Millisecond, EachToken: 20 * time.Millisecond,
		Faults: Faults{Unhealthy: true, FailRequests: 3, CutAfterTokens: 5},
	}, opts)
}

func TestModelIsServedUnderItsOwnNameByDefault(t *testing.T) {
	for _, line := range []string{"serve a/b", "a/b", "--model a/b"} {
		opts, address, err := parse(line, nil)
		require.NoError(t, err)
		assert.Equal(t, []string{"a/b"}, opts.ServedNames)
		assert.Equal(t, "0.0.0.0:8000", address)
		assert.False(t, opts.DevMode || opts.RuntimeLoRA || opts.EnableLoRA)
	}
}

func TestAnEarlierReleaseHasItsOwnFlags(t *testing.T) {
	_, _, err := parse("m --sim-release=0.10.2 --swap-space=4", nil)
	require.NoError(t, err)
}

func TestArgumentsThatVLLMWouldRefuseAreRefused(t *testing.T) {
	for line, says := range map[string]string{
		"m --max-model-length 5":           "unrecognized arguments: --max-model-length",
		"m --max-model-len many":           "argument --max-model-len: invalid value",
		"m --swap-space=4":                 "unrecognized arguments: --swap-space",
		"m --task generate":                "unrecognized arguments: --task",
		"m --enable-lora yes":              "unrecognized arguments: yes",
		"m --lora-modules dolly":           "NAME=PATH",
		"m --lora-modules =/path":          "must have a name",
		"m --sim-load-time=soon":           "write it as --sim-load-time=VALUE",
		"m --sim-release=0.1.0":            "engine 0.1.0 has no table of flags",
		"m --sim-release=0.10.2 --hc-sp=1": "unrecognized arguments: --hc-sp",
	} {
		_, _, err := parse(line, nil)
		assert.ErrorContains(t, err, says, line)
	}
}
