// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"maps"
	"slices"
	"strconv"
)

// enginePort is where the engine listens, on localhost only.
const enginePort = 8000

// arguments of vllm serve: sorted and complete, so that the same input gives the same text. A flag that takes several
// values is followed by them; all others are one word.
func arguments(in Input) []string {
	e := in.Engine
	flags := maps.Clone(e.Args)
	if flags == nil {
		flags = map[string]string{}
	}
	flags["host"], flags["port"] = "127.0.0.1", strconv.Itoa(enginePort)
	if e.Revision != "" && e.WeightsImage == "" {
		flags["revision"] = e.Revision
	}
	lists := map[string][]string{"served-model-name": servedNames(in)}
	if len(in.Adapters) > 0 {
		flags["enable-lora"] = ""
		flags["max-loras"] = strconv.Itoa(len(in.Adapters))
		if e.MaxLoraRank > 0 {
			flags["max-lora-rank"] = strconv.Itoa(e.MaxLoraRank)
		}
		for _, a := range in.Adapters {
			lists["lora-modules"] = append(lists["lora-modules"], a.Name+"="+adapterPath(in, a))
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(union(flags, lists))) {
		switch values, several := lists[name]; {
		case several:
			out = append(append(out, "--"+name), values...)
		case flags[name] == "":
			out = append(out, "--"+name)
		default:
			out = append(out, "--"+name+"="+flags[name])
		}
	}
	return out
}

// servedNames of the base model: with a tuned model the Workspace's name is the adapter's.
func servedNames(in Input) []string {
	var out []string
	if in.Tuned == "" {
		out = append(out, in.Workspace.Name)
	}
	for _, name := range in.Engine.Names {
		if name != in.Workspace.Name && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		out = append(out, in.Workspace.Name+"-base")
	}
	return out
}

func union(flags map[string]string, lists map[string][]string) map[string]bool {
	out := map[string]bool{}
	for k := range flags {
		out[k] = true
	}
	for k := range lists {
		out[k] = true
	}
	return out
}
