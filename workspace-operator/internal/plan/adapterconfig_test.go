// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

func TestAdaptersThatTheEngineRefusesAreNotTrained(t *testing.T) {
	t.Parallel()
	c := load(t)
	for lora, key := range map[string]string{
		"{}": "", "{use_dora: false, bias: none, modules_to_save: [], init_lora_weights: true}": "",
		"{init_lora_weights: Gaussian}": "", "{modules_to_save: [score]}": "", "{r: 128, use_rslora: true}": "",
		"{use_dora: true}": "use_dora", "{bias: all}": "bias", "{bias: lora_only}": "bias", "{lora_bias: true}": "lora_bias",
		"{modules_to_save: [lm_head, embed_tokens]}": "modules_to_save", "{init_lora_weights: pissa}": "init_lora_weights",
		"{layer_replication: [[0, 4], [2, 5]]}": "layer_replication", "{alora_invocation_tokens: [1]}": "alora_invocation_tokens",
	} {
		r := tuning("lora", "phi-4", "Standard_NC24ads_A100_v4")
		r.TrainingConfig = "LoraConfig: " + lora
		_, err := plan.Make(r, c, vllm.Engine{})
		if key == "" {
			assert.NoError(t, err, lora)
			continue
		}
		var refused *plan.Refusal
		require.ErrorAs(t, err, &refused, lora)
		assert.Equal(t, kaitov1alpha1.ReasonInvalidConfig, refused.Reason)
		assert.Contains(t, refused.Message, "LoraConfig."+key)
		assert.Contains(t, refused.Message, "remove the key")
	}
}
