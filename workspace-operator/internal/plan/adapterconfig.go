// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"

	"kaito.sh/workspace-operator/internal/configfile"
)

// What PEFT trains and the engine does not load: vllm/lora/peft_helper.py (PEFTHelper.validate_legal) of vLLM 0.32.0.
// make test-engine asks the engine about each.
var (
	unservableSwitches = []string{"use_dora", "lora_bias", "use_qalora", "use_bdlora"}
	unservableValues   = []string{"alora_invocation_tokens", "layer_replication"}
	// servableStarts only set the first weights of the adapter; others change the base model.
	servableStarts  = []string{"gaussian", "eva", "orthogonal", "mica", "lora_ga"}
	servableModules = []string{"classifier", "score"}
)

// checkAdapter refuses an adapter that the engine does not load, before it is trained: a Workspace serves what it
// tunes.
func checkAdapter(lora map[string]any) error {
	for _, key := range unservableSwitches {
		if lora[key] != nil && lora[key] != false {
			return unservable(key, lora[key])
		}
	}
	for _, key := range unservableValues {
		if list, isList := lora[key].([]any); lora[key] != nil && (!isList || len(list) > 0) {
			return unservable(key, lora[key])
		}
	}
	if bias := lora["bias"]; bias != nil && bias != "none" {
		return unservable("bias", bias)
	}
	if start, ok := lora["init_lora_weights"].(string); ok && !slices.Contains(servableStarts, strings.ToLower(start)) {
		return unservable("init_lora_weights", start)
	}
	modules, _ := lora["modules_to_save"].([]any)
	for _, module := range modules {
		if name, _ := module.(string); !slices.Contains(servableModules, name) {
			return unservable("modules_to_save", module)
		}
	}
	return nil
}

func unservable(key string, value any) error {
	return configfile.Wrong(
		trainingFile, "LoraConfig."+key, "%s",
		fmt.Sprintf("is %v, and the engine does not load such an adapter; remove the key, or train it with a TuningJob, which is not served", value),
	)
}
