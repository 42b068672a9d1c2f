// SPDX-License-Identifier: Apache-2.0

package engineargs

// removed says what replaced the flags that an earlier release had. The engine's parser only says that it does not know
// them. A test compares the names with the tables. The replacements are those that the deprecation notices of the
// earlier releases name, or that the newer configuration classes document. It is never changed.
var removed = map[string]string{
	"calculate-kv-scales":                           "remove the key",
	"cuda-graph-sizes":                              "write cudagraph-capture-sizes",
	"disable-async-output-proc":                     "remove the key",
	"disable-frontend-multiprocessing":              "remove the key",
	"disable-log-requests":                          "requests are logged only with enable-log-requests; remove the key",
	"disable-mm-preprocessor-cache":                 "write mm-processor-cache-gb: 0",
	"enable-lora-bias":                              "remove the key",
	"enable-multimodal-encoder-data-parallel":       "write mm-encoder-tp-mode: data",
	"eplb-log-balancedness":                         "write eplb-config: {log_balancedness: …}",
	"eplb-step-interval":                            "write eplb-config: {step_interval: …}",
	"eplb-window-size":                              "write eplb-config: {window_size: …}",
	"guided-decoding-backend":                       "write structured-outputs-config: {backend: …}",
	"guided-decoding-disable-additional-properties": "write structured-outputs-config: {disable_additional_properties: …}",
	"guided-decoding-disable-any-whitespace":        "write structured-outputs-config: {disable_any_whitespace: …}",
	"guided-decoding-disable-fallback":              "remove the key",
	"logits-processor-pattern":                      "write logits-processors",
	"lora-extra-vocab-size":                         "remove the key",
	"max-long-partial-prefills":                     "remove the key",
	"max-num-partial-prefills":                      "remove the key",
	"max-seq-len-to-capture":                        "write max-cudagraph-capture-size",
	"num-lookahead-slots":                           "write speculative-config: {num_speculative_tokens: …}",
	"num-redundant-experts":                         "write eplb-config: {num_redundant_experts: …}",
	"num-scheduler-steps":                           "remove the key",
	"override-attention-dtype":                      "remove the key",
	"override-pooler-config":                        "write pooler-config",
	"preemption-mode":                               "preempted requests are always recomputed; remove the key",
	"rope-scaling":                                  "write hf-overrides: {rope_parameters: …}",
	"rope-theta":                                    "write hf-overrides: {rope_parameters: {rope_theta: …}}",
	"scheduler-delay-factor":                        "remove the key",
	"swap-space":                                    "preempted requests are recomputed, not swapped; remove the key",
	"task":                                          "a preset generates text by default; remove the key",
	"use-v2-block-manager":                          "remove the key",
}
