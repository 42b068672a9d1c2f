// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"kaito.sh/shared/engineargs"
)

// release is the engine's release that is simulated where --sim-release names none.
const release = "0.32.0"

// ParseArgs reads the arguments of `vllm serve`: the model, vLLM's flags, and the simulation's own, which begin with
// --sim-. What the parser of the release refuses is refused, from the table that was generated from it. getenv gives
// vLLM's two environment variables that open routes. It returns the options and the address to listen on.
//
//	--sim-release=0.10.2                                                     the release whose flags are accepted
//	--sim-load-time=30s  --sim-first-token=200ms  --sim-each-token=20ms     pace, as Go durations
//	--sim-unhealthy      --sim-fail-requests=3    --sim-cut-after-tokens=5  faults
func ParseArgs(args []string, getenv func(string) string) (Options, string, error) {
	opts := Options{
		RuntimeLoRA: truthy(getenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING")),
		DevMode:     truthy(getenv("VLLM_SERVER_DEV_MODE")),
	}
	args, version, err := opts.own(args)
	if err != nil {
		return Options{}, "", err
	}
	for len(args) > 0 && (args[0] == "vllm" || args[0] == "serve") {
		args = args[1:]
	}
	opts.Release = version
	table, err := engineargs.For(version)
	if err != nil {
		return Options{}, "", err
	}
	parsed, err := table.Parse(args)
	if err != nil {
		return Options{}, "", err
	}
	if err := opts.set(table, parsed); err != nil {
		return Options{}, "", err
	}
	if opts.Group, err = group(parsed); err != nil {
		return Options{}, "", err
	}
	address := net.JoinHostPort(given(parsed, "host", "0.0.0.0"), given(parsed, "port", "8000")) // vLLM's defaults
	return opts, address, nil
}

// given is the value of a flag, or the engine's default.
func given(parsed engineargs.Arguments, flag, otherwise string) string {
	if values := parsed.Values[flag]; len(values) > 0 {
		return values[0]
	}
	return otherwise
}

// own takes the simulation's own flags off args, and returns the rest and the release.
func (o *Options) own(args []string) (rest []string, version string, err error) {
	version = release
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		var err error
		switch name {
		case "--sim-release":
			version = value
		case "--sim-load-time":
			o.LoadTime, err = time.ParseDuration(value)
		case "--sim-first-token":
			o.FirstToken, err = time.ParseDuration(value)
		case "--sim-each-token":
			o.EachToken, err = time.ParseDuration(value)
		case "--sim-unhealthy":
			o.Faults.Unhealthy = true
		case "--sim-fail-requests":
			o.Faults.FailRequests, err = strconv.Atoi(value)
		case "--sim-cut-after-tokens":
			o.Faults.CutAfterTokens, err = strconv.Atoi(value)
		default:
			rest = append(rest, arg)
		}
		if err != nil {
			return nil, "", fmt.Errorf("argument %s: write it as %s=VALUE: %w", name, name, err)
		}
	}
	return rest, version, nil
}

// set takes what the simulation uses of vLLM's flags; all others have no meaning in it.
func (o *Options) set(table *engineargs.Table, parsed engineargs.Arguments) error {
	o.Model = parsed.Model
	if model := parsed.Values["model"]; len(model) > 0 {
		o.Model = model[0]
	}
	o.ServedNames = slices.Clone(parsed.Values["served-model-name"])
	if len(o.ServedNames) == 0 && o.Model != "" {
		o.ServedNames = []string{o.Model}
	}
	modules, _ := table.Flag("lora-modules")
	for _, value := range parsed.Values["lora-modules"] {
		name, path, _ := modules.LoraModule(value)
		if name == "" || path == "" {
			return fmt.Errorf("argument --lora-modules: %q must have a name and a path", value)
		}
		o.Adapters = append(o.Adapters, Adapter{Name: name, Path: path})
	}
	enabled := parsed.Values["enable-lora"]
	o.EnableLoRA = len(enabled) > 0 && enabled[0] == "true"
	for flag, into := range map[string]*int{
		"max-model-len": &o.MaxModelLen, "max-num-seqs": &o.MaxNumSeqs, "max-loras": &o.MaxLoras,
	} {
		values := parsed.Values[flag]
		if len(values) == 0 || values[0] == "-1" || strings.EqualFold(values[0], "auto") {
			continue
		}
		n, ok := engineargs.Tokens(values[0])
		if !ok {
			return fmt.Errorf("argument --%s: invalid value: %q", flag, values[0])
		}
		*into = int(n)
	}
	return nil
}

// group reads the flags of several nodes; the address is vLLM's default where none is given.
func group(parsed engineargs.Arguments) (Group, error) {
	nodes, err := strconv.Atoi(given(parsed, "nnodes", "1"))
	if err != nil || nodes < 2 {
		return Group{}, err
	}
	g := Group{
		Nodes:    nodes,
		Address:  net.JoinHostPort(given(parsed, "master-addr", "127.0.0.1"), given(parsed, "master-port", "29501")),
		Headless: given(parsed, "headless", "false") == "true",
	}
	if g.Rank, err = strconv.Atoi(given(parsed, "node-rank", "0")); err != nil {
		return g, fmt.Errorf("argument --node-rank: %w", err)
	}
	return g, g.validate()
}

// truthy reads an environment variable as vLLM does: 1 and true are yes.
func truthy(value string) bool { return value == "1" || strings.EqualFold(value, "true") }
