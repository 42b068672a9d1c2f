// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// taken are the flags of `vllm serve` that have no meaning in a simulation, with how many values each takes. What is
// neither here nor read below is refused, as vLLM's own parser refuses what it does not know: a pod's arguments that
// this engine takes are at least spelled as vLLM spells them. The table is read only.
var taken = map[string]int{
	"revision":                     1,
	"code-revision":                1,
	"tokenizer":                    1,
	"tokenizer-mode":               1,
	"tokenizer-revision":           1,
	"hf-overrides":                 1,
	"load-format":                  1,
	"download-dir":                 1,
	"dtype":                        1,
	"quantization":                 1,
	"kv-cache-dtype":               1,
	"config-format":                1,
	"seed":                         1,
	"task":                         1,
	"runner":                       1,
	"convert":                      1,
	"model-impl":                   1,
	"tensor-parallel-size":         1,
	"pipeline-parallel-size":       1,
	"data-parallel-size":           1,
	"data-parallel-size-local":     1,
	"data-parallel-address":        1,
	"data-parallel-rpc-port":       1,
	"data-parallel-start-rank":     1,
	"data-parallel-backend":        1,
	"distributed-executor-backend": 1,
	"nnodes":                       1,
	"node-rank":                    1,
	"master-addr":                  1,
	"master-port":                  1,
	"headless":                     0,
	"enable-expert-parallel":       0,
	"gpu-memory-utilization":       1,
	"cpu-offload-gb":               1,
	"swap-space":                   1,
	"block-size":                   1,
	"max-num-batched-tokens":       1,
	"enable-chunked-prefill":       0,
	"enable-prefix-caching":        0,
	"no-enable-prefix-caching":     0,
	"enforce-eager":                0,
	"trust-remote-code":            0,
	"compilation-config":           1,
	"max-lora-rank":                1,
	"max-cpu-loras":                1,
	"lora-dtype":                   1,
	"fully-sharded-loras":          0,
	"chat-template":                1,
	"chat-template-content-format": 1,
	"enable-auto-tool-choice":      0,
	"tool-call-parser":             1,
	"reasoning-parser":             1,
	"limit-mm-per-prompt":          1,
	"generation-config":            1,
	"override-generation-config":   1,
	"uvicorn-log-level":            1,
	"disable-log-requests":         0,
	"no-enable-log-requests":       0,
	"disable-log-stats":            0,
	"disable-uvicorn-access-log":   0,
	"api-server-count":             1,
	"otlp-traces-endpoint":         1,
	"max-log-len":                  1,
	"shutdown-timeout":             1,
}

// ParseArgs reads the arguments of `vllm serve`: the model, vLLM's flags, and the simulation's own, which begin with
// --sim-. getenv gives vLLM's two environment variables that open routes. It returns the options and the address to
// listen on.
//
//	--sim-load-time 30s  --sim-first-token 200ms  --sim-each-token 20ms   pace, as Go durations
//	--sim-unhealthy      --sim-fail-requests 3    --sim-cut-after-tokens 5  faults
func ParseArgs(args []string, getenv func(string) string) (Options, string, error) {
	args = slices.Clone(args)
	for len(args) > 0 && (args[0] == "vllm" || args[0] == "serve") {
		args = args[1:]
	}
	opts := Options{
		RuntimeLoRA: truthy(getenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING")),
		DevMode:     truthy(getenv("VLLM_SERVER_DEV_MODE")),
	}
	host, port := "0.0.0.0", "8000" // vLLM's defaults
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		opts.Model, args = args[0], args[1:]
	}
	for len(args) > 0 {
		name, values, rest, err := nextFlag(args)
		if err != nil {
			return Options{}, "", err
		}
		args = rest
		switch name {
		case "host":
			host, err = one(name, values)
		case "port":
			port, err = one(name, values)
		case "model":
			opts.Model, err = one(name, values)
		case "served-model-name":
			opts.ServedNames, err = values, atLeastOne(name, values)
		case "lora-modules":
			opts.Adapters, err = adapters(values)
		default:
			err = opts.flag(name, values)
		}
		if err != nil {
			return Options{}, "", err
		}
	}
	if len(opts.ServedNames) == 0 && opts.Model != "" {
		opts.ServedNames = []string{opts.Model}
	}
	return opts, net.JoinHostPort(host, port), nil
}

// flag reads a flag of one value or none.
func (o *Options) flag(name string, values []string) error {
	for known, into := range map[string]*int{
		"max-model-len": &o.MaxModelLen, "max-num-seqs": &o.MaxNumSeqs, "max-loras": &o.MaxLoras,
		"sim-fail-requests": &o.Faults.FailRequests, "sim-cut-after-tokens": &o.Faults.CutAfterTokens,
	} {
		if name == known {
			return number(name, values, into)
		}
	}
	for known, into := range map[string]*time.Duration{
		"sim-load-time": &o.LoadTime, "sim-first-token": &o.FirstToken, "sim-each-token": &o.EachToken,
	} {
		if name == known {
			return duration(name, values, into)
		}
	}
	for known, into := range map[string]*bool{"enable-lora": &o.EnableLoRA, "sim-unhealthy": &o.Faults.Unhealthy} {
		if name == known {
			*into = true
			return none(name, values)
		}
	}
	count, known := taken[name]
	switch {
	case !known:
		return fmt.Errorf("unrecognized arguments: --%s", name)
	case count == 0:
		return none(name, values)
	}
	_, err := one(name, values)
	return err
}

// nextFlag takes a flag and its values off args, in argparse's way: --name=value, or --name and what follows up to the
// next flag. An underscore is as good as a dash in a name.
func nextFlag(args []string) (name string, values, rest []string, err error) {
	name, found := strings.CutPrefix(args[0], "--")
	if !found {
		return "", nil, nil, fmt.Errorf("unrecognized arguments: %s", args[0])
	}
	rest = args[1:]
	name, value, joined := strings.Cut(name, "=")
	name = strings.ReplaceAll(name, "_", "-")
	if joined {
		return name, []string{value}, rest, nil
	}
	for len(rest) > 0 && !strings.HasPrefix(rest[0], "--") {
		values, rest = append(values, rest[0]), rest[1:]
	}
	return name, values, rest, nil
}

// adapters reads --lora-modules: name=path, or JSON with name and path.
func adapters(values []string) ([]Adapter, error) {
	if err := atLeastOne("lora-modules", values); err != nil {
		return nil, err
	}
	var all []Adapter
	for _, value := range values {
		if strings.HasPrefix(value, "{") {
			var module struct{ Name, Path string }
			if err := json.Unmarshal([]byte(value), &module); err != nil || module.Name == "" || module.Path == "" {
				return nil, fmt.Errorf("--lora-modules: %q is not a JSON object with a name and a path", value)
			}
			all = append(all, Adapter{Name: module.Name, Path: module.Path})
			continue
		}
		name, path, found := strings.Cut(value, "=")
		if !found || name == "" || path == "" {
			return nil, fmt.Errorf("--lora-modules: %q must be NAME=PATH or JSON", value)
		}
		all = append(all, Adapter{Name: name, Path: path})
	}
	return all, nil
}

func one(name string, values []string) (string, error) {
	if len(values) != 1 {
		return "", fmt.Errorf("argument --%s: expected one argument, got %d", name, len(values))
	}
	return values[0], nil
}

func none(name string, values []string) error {
	if len(values) != 0 {
		return fmt.Errorf("argument --%s: expected no argument, got %q", name, values)
	}
	return nil
}

func atLeastOne(name string, values []string) error {
	if len(values) == 0 {
		return fmt.Errorf("argument --%s: expected at least one argument", name)
	}
	return nil
}

func number(name string, values []string, into *int) error {
	value, err := one(name, values)
	if err != nil {
		return err
	}
	if *into, err = strconv.Atoi(value); err != nil {
		return fmt.Errorf("argument --%s: invalid int value: %q", name, value)
	}
	return nil
}

func duration(name string, values []string, into *time.Duration) error {
	value, err := one(name, values)
	if err != nil {
		return err
	}
	if *into, err = time.ParseDuration(value); err != nil {
		return fmt.Errorf("argument --%s: %q is not a duration such as 30s", name, value)
	}
	return nil
}

// truthy reads an environment variable as vLLM does: 1 and true are yes.
func truthy(value string) bool { return value == "1" || strings.EqualFold(value, "true") }
