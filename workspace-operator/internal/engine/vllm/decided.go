// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"maps"
	"slices"
	"strings"
)

// decided are the engine's flags that the plan sets; a user's value for one would contradict it, so it is refused by
// name. It is never changed.
var decided = map[string]string{
	"tensor-parallel-size":                 "the plan decides it: choose resource.instanceType or resource.count instead",
	"pipeline-parallel-size":               "the plan decides it: choose resource.count instead",
	"data-parallel-size":                   "the plan decides it: choose resource.instanceType instead",
	"data-parallel-size-local":             "the plan decides it: choose resource.instanceType instead",
	"data-parallel-rank":                   "the plan decides it",
	"data-parallel-address":                "the plan decides it",
	"data-parallel-rpc-port":               "the plan decides it",
	"data-parallel-backend":                "the plan decides it",
	"data-parallel-start-rank":             "the plan decides it",
	"data-parallel-external-lb":            "the plan decides it",
	"data-parallel-hybrid-lb":              "the plan decides it",
	"data-parallel-multi-port-external-lb": "the plan decides it",
	"decode-context-parallel-size":         "the plan decides it",
	"prefill-context-parallel-size":        "the plan decides it",
	"enable-expert-parallel":               "the plan decides it",
	"distributed-executor-backend":         "the plan decides it",
	"nnodes":                               "the plan decides it: choose resource.count instead",
	"node-rank":                            "the plan decides it",
	"master-addr":                          "the plan decides it",
	"master-port":                          "the plan decides it",
	"headless":                             "the plan decides it",
	"served-model-name":                    "it is the Workspace's name",
	"model":                                "inference.preset names it",
	"model-tag":                            "inference.preset names it",
	"revision":                             "write it as name@revision in inference.preset.name",
	"code-revision":                        "write it as name@revision in inference.preset.name",
	"runner":                               "a preset generates text",
	"tokenizer-mode":                       "the catalogue decides it",
	"load-format":                          "the catalogue decides it",
	"config-format":                        "the catalogue decides it",
	"trust-remote-code":                    "it runs Python from the model's repository, so only the catalogue sets it",
	"hf-token":                             "name a Secret in inference.preset.presetOptions.modelAccessSecret",
	"host":                                 "the engine is reached through the gateway only",
	"port":                                 "the engine is reached through the gateway only",
	"uds":                                  "the engine is reached through the gateway only",
	"root-path":                            "the engine is reached through the gateway only",
	"ssl-keyfile":                          "the engine is reached through the gateway only",
	"ssl-certfile":                         "the engine is reached through the gateway only",
	"ssl-ca-certs":                         "the engine is reached through the gateway only",
	"grpc":                                 "the engine is reached through the gateway only",
	"grpc-port":                            "the engine is reached through the gateway only",
	"api-key":                              "keys are set on the gateway",
	"enable-lora":                          "it follows from inference.adapters",
	"max-loras":                            "it follows from inference.adapters",
	"max-lora-rank":                        "it follows from inference.adapters",
	"lora-modules":                         "it follows from inference.adapters",
	"download-dir":                         "weights have a volume of their own",
	"config":                               "write its keys here",
}

// decidedBy finds what the plan sets by one of the flags that a key is the beginning of.
func decidedBy(key string) (why string, fixed bool) {
	flag := strings.TrimPrefix(strings.ReplaceAll(strings.TrimLeft(key, "-"), "_", "-"), "no-")
	for _, name := range slices.Sorted(maps.Keys(decided)) {
		if flag != "" && strings.HasPrefix(name, flag) {
			return "it stands for " + name + ", and " + decided[name], true
		}
	}
	return "", false
}
