// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"
	"strings"

	"kaito.sh/workspace-operator/internal/configfile"
	"kaito.sh/workspace-operator/internal/engine"
)

// trainingFile is the key of the ConfigMap that a tuning section names.
const trainingFile = "training_config.yaml"

// defaultRank is LoraConfig.r where nothing is given (PEFT's default).
const defaultRank = 8

// parseTraining reads what the memory depends on. What is contradictory in it is for the tuning-operator to refuse.
func parseTraining(text string) (training, error) {
	// TRL's defaults of the rank and batch, a sequence length that covers most instruction data, and checkpointing on.
	out := training{rank: defaultRank, sequence: 2048, batch: 1, checkpointing: true}
	if strings.TrimSpace(text) == "" {
		return out, nil
	}
	document, err := configfile.Read(trainingFile, text)
	if err != nil {
		return out, err
	}
	if inner, ok := document["training_config"].(map[string]any); ok {
		document = inner
	}
	lora, _ := document["LoraConfig"].(map[string]any)
	if err := checkAdapter(lora); err != nil {
		return out, err
	}
	for _, f := range []struct {
		section, key string
		into         *int
	}{
		{"LoraConfig", "r", &out.rank}, {"TrainingArguments", "per_device_train_batch_size", &out.batch},
		{"TrainingArguments", "max_seq_length", &out.sequence}, {"TrainingArguments", "max_length", &out.sequence},
		{"DatasetConfig", "max_seq_length", &out.sequence},
	} {
		section, _ := document[f.section].(map[string]any)
		value, set := section[f.key]
		if !set || value == nil {
			continue
		}
		text, err := configfile.Scalar(value)
		if err != nil {
			return out, configfile.Wrong(trainingFile, f.section+"."+f.key, "%s", err)
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > engine.MaxTokens {
			return out, configfile.Wrong(
				trainingFile, f.section+"."+f.key, "is %q; allowed: a whole number from 1 to %d", text, engine.MaxTokens,
			)
		}
		*f.into = n
	}
	if section, ok := document["QuantizationConfig"].(map[string]any); ok {
		out.eightBit, _ = section["load_in_8bit"].(bool)
	}
	if section, ok := document["TrainingArguments"].(map[string]any); ok {
		if on, ok := section["gradient_checkpointing"].(bool); ok {
			out.checkpointing = on
		}
	}
	return out, nil
}
