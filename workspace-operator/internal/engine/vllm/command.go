// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"maps"
	"slices"
	"strconv"

	"kaito.sh/workspace-operator/internal/engine"
)

// Command runs vllm serve.
func (Engine) Command(s engine.Server) engine.Command {
	return engine.Command{
		Command: []string{"vllm", "serve", s.Model},
		Args:    arguments(s),
		Env: map[string]string{
			"VLLM_CACHE_ROOT":         s.CacheDir + "/vllm",
			"TORCHINDUCTOR_CACHE_DIR": s.CacheDir + "/inductor",
			"VLLM_NO_USAGE_STATS":     "1",
		},
	}
}

// arguments of vllm serve.
func arguments(s engine.Server) []string {
	flags := maps.Clone(s.Flags)
	if flags == nil {
		flags = engine.Flags{}
	}
	flags.Set("host", s.Host)
	flags.Set("port", strconv.Itoa(s.Port))
	flags.Set("revision", s.Revision)
	flags["served-model-name"] = s.Names
	if s.ChatTemplate != "" {
		flags.Set("chat-template", s.ChatTemplate)
	}
	if len(s.Adapters) > 0 {
		flags["enable-lora"] = nil
		flags.Set("max-loras", strconv.Itoa(len(s.Adapters)))
		if s.MaxLoraRank > 0 {
			flags.Set("max-lora-rank", strconv.Itoa(s.MaxLoraRank))
		}
		for _, a := range s.Adapters {
			flags["lora-modules"] = append(flags["lora-modules"], a.Name+"="+a.Path)
		}
	}
	return flags.Words("served-model-name", "lora-modules")
}

// Ranked adds vLLM's multi-node flags: each rank gets the number of ranks, its own rank, and the address on which rank
// 0 waits for the others. All ranks but the first answer no requests.
func (Engine) Ranked(c engine.Command, r engine.Ranks) engine.Command {
	c.Args = slices.Concat(c.Args, []string{
		"--distributed-executor-backend=mp",
		"--master-addr=" + r.Leader,
		"--master-port=" + strconv.Itoa(int(r.Port)),
		"--nnodes=" + strconv.Itoa(r.Nodes),
		"--node-rank=$(" + r.Variable + ")",
	})
	c.FollowerArgs = []string{"--headless"}
	return c
}
