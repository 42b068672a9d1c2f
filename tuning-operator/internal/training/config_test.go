// SPDX-License-Identifier: Apache-2.0

package training_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/tuning-operator/internal/training"
)

var update = flag.Bool("update", false, "write the golden files")

// kaitoQLoRA is the configuration that KAITO installs for qlora. It must be accepted unchanged.
const kaitoQLoRA = `training_config:
  ModelConfig:
    torch_dtype: "bfloat16"
    local_files_only: true
    device_map: "auto"
  QuantizationConfig:
    load_in_4bit: true
    bnb_4bit_quant_type: "nf4"
    bnb_4bit_compute_dtype: "bfloat16"
    bnb_4bit_use_double_quant: true
  LoraConfig:
    r: 8
    lora_alpha: 8
    lora_dropout: 0.0
  TrainingArguments:
    output_dir: "/mnt/results"
    # num_train_epochs: <Defaults to 3, adjustable>
    ddp_find_unused_parameters: false
    save_strategy: "epoch"
    per_device_train_batch_size: 1
  DataCollator:
    mlm: true
  DatasetConfig:
    shuffle_dataset: true
    train_test_split: 1
`

func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		method, text string
		overrides    map[string]map[string]any
	}{
		"kaito-qlora":         {"qlora", kaitoQLoRA, nil},
		"lora-by-default":     {"LoRA", "", nil},
		"qlora-by-default":    {"qlora", "", nil},
		"renamed-and-unknown": {"lora", "TrainingArguments: {max_seq_length: 512, packing: true, learning_rate: 2e-4, neftune_noise_alpha: 5}\nLoraConfig: {target_modules: [q_proj], use_dora: true}\nDataCollator: {pad_to_multiple_of: 8}\nDatasetConfig: {context_column: question, response_column: answer, shuffle_dataset: false, train_test_split: 0.9, dataset_path: /data/sub/a.csv}\nModelConfig: {trust_remote_code: true, chat_template: \"{{ messages }}\"}", nil},
		"overrides-win":       {"qlora", kaitoQLoRA, map[string]map[string]any{"LoraConfig": {"r": float64(32)}, "QuantizationConfig": {"load_in_4bit": false, "load_in_8bit": true}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := training.Parse(c.method, c.text, c.overrides)
			require.NoError(t, err)
			text, err := got.JSON()
			require.NoError(t, err)
			for range 50 {
				again, err := training.Parse(c.method, c.text, c.overrides)
				require.NoError(t, err)
				other, err := again.JSON()
				require.NoError(t, err)
				require.Equal(t, text, other)
				require.Equal(t, got.Notes, again.Notes)
			}
			pretty, err := json.MarshalIndent(map[string]any{"config": got, "notes": got.Notes}, "", "  ")
			require.NoError(t, err)
			path := filepath.Join("testdata", name+".json")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, append(pretty, '\n'), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(pretty)+"\n")
		})
	}
}

func TestErrorsNameTheKey(t *testing.T) {
	for name, c := range map[string]struct {
		method, text  string
		overrides     map[string]map[string]any
		key           string
		contradiction bool
		says          string
	}{
		"qlora without bits":                   {"qlora", "QuantizationConfig: {bnb_4bit_quant_type: nf4}", nil, "QuantizationConfig.load_in_4bit and load_in_8bit", true, "qlora"},
		"qlora with a config that has no bits": {"qlora", "LoraConfig: {r: 8}", nil, "QuantizationConfig.load_in_4bit and load_in_8bit", true, "qlora"},
		"both at once":                         {"qlora", "QuantizationConfig: {load_in_4bit: true, load_in_8bit: true}", nil, "QuantizationConfig.load_in_4bit and load_in_8bit", true, "keep one"},
		"both at once by an override":          {"qlora", kaitoQLoRA, map[string]map[string]any{"QuantizationConfig": {"load_in_8bit": true}}, "QuantizationConfig.load_in_4bit and load_in_8bit", true, "keep one"},
		"lora with bits":                       {"lora", "QuantizationConfig: {load_in_8bit: true}", nil, "QuantizationConfig.load_in_8bit", true, "qlora"},
		"a quoted boolean":                     {"qlora", "QuantizationConfig: {load_in_4bit: 'true'}", nil, "QuantizationConfig.load_in_4bit", false, "true or false"},
		"bits in the wrong section":            {"qlora", "QuantizationConfig: {load_in_4bit: true}\nModelConfig: {load_in_4bit: true}", nil, "ModelConfig.load_in_4bit", false, "QuantizationConfig.load_in_4bit"},
		"an unknown section":                   {"lora", "TokenizerParams: {padding: true}", nil, "TokenizerParams", false, "DatasetConfig"},
		"an unknown section in overrides":      {"lora", "", map[string]map[string]any{"Lora": {"r": 1}}, "overrides.Lora", false, "LoraConfig"},
		"an unknown dataset key":               {"lora", "DatasetConfig: {message_column: m}", nil, "DatasetConfig.message_column", false, "messages_column"},
		"both precisions":                      {"lora", "TrainingArguments: {fp16: true, bf16: true}", nil, "TrainingArguments.fp16 and bf16", true, "keep one"},
		"an old and a new name":                {"lora", "TrainingArguments: {max_seq_length: 1, max_length: 2}", nil, "TrainingArguments.max_seq_length", true, "max_length"},
		"a rank of 0":                          {"lora", "LoraConfig: {r: 0}", nil, "LoraConfig.r", false, "at least 1"},
		"a rank that is not a number":          {"lora", "LoraConfig: {r: eight}", nil, "LoraConfig.r", false, "number"},
		"a learning rate of 0":                 {"lora", "TrainingArguments: {learning_rate: 0}", nil, "TrainingArguments.learning_rate", false, "more than 0"},
		"a split above 1":                      {"lora", "DatasetConfig: {train_test_split: 80}", nil, "DatasetConfig.train_test_split", false, "at most 1"},
		"a share above 1":                      {"lora", "DatasetConfig: {max_truncated_answers: 10}", nil, "DatasetConfig.max_truncated_answers", false, "from 0 to 1"},
		"two formats of data":                  {"lora", "DatasetConfig: {messages_column: m, context_column: c}", nil, "DatasetConfig.messages_column and context_column", true, "keep one"},
		"a path outside of the dataset":        {"lora", "DatasetConfig: {dataset_path: ../x}", nil, "DatasetConfig.dataset_path", false, "inside"},
		"a chat template's path":               {"lora", "ModelConfig: {chat_template: /workspace/chat_templates/phi-3.jinja}", nil, "ModelConfig.chat_template", false, "remove the key"},
		"a chat template's name":               {"lora", "ModelConfig: {chat_template: chatml}", nil, "ModelConfig.chat_template", false, "text"},
		"the library's path of a template":     {"lora", "TrainingArguments: {chat_template_path: org/model}", nil, "TrainingArguments.chat_template_path", false, "ModelConfig.chat_template"},
		"another quantizer":                    {"qlora", "QuantizationConfig: {load_in_4bit: true, quant_method: awq}", nil, "QuantizationConfig.quant_method", false, "bitsandbytes"},
		"text where a section is expected":     {"lora", "LoraConfig: 8", nil, "LoraConfig", false, "section"},
		"a key twice":                          {"lora", "LoraConfig: {r: 8}\nLoraConfig: {r: 9}", nil, "", false, "YAML"},
		"no YAML":                              {"lora", "a: b: c", nil, "", false, "YAML"},
		"a second root":                        {"lora", "training_config: {}\nLoraConfig: {}", nil, "", false, "only key"},
		"another method":                       {"dora", "", nil, "", false, "lora or qlora"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := training.Parse(c.method, c.text, c.overrides)
			var bad *training.ConfigError
			require.ErrorAs(t, err, &bad)
			assert.Equal(t, c.key, bad.Key)
			assert.Equal(t, c.contradiction, bad.Contradiction)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestUnusedKeysAreNoted(t *testing.T) {
	c, err := training.Parse("qlora", kaitoQLoRA, nil)
	require.NoError(t, err)
	assert.Len(t, c.Notes, 5)
	assert.Contains(t, c.Notes[4], "TrainingArguments.save_strategy")
	assert.NotContains(t, c.Trainer, "output_dir")
}
