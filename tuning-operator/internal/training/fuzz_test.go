// SPDX-License-Identifier: Apache-2.0

package training_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"kaito.sh/tuning-operator/internal/training"
)

// FuzzParse searches for a configuration that panics, is refused without a reason, or is accepted despite a
// contradiction.
func FuzzParse(f *testing.F) {
	for _, method := range []string{"lora", "qlora"} {
		f.Add(method, "", "")
		f.Add(method, kaitoQLoRA, "LoraConfig: {r: 32}")
		f.Add(
			method,
			"QuantizationConfig: {load_in_4bit: true, load_in_8bit: null}\nDatasetConfig: {context_column: q, response_column: a, dataset_path: /data/./x/../y}",
			"QuantizationConfig: {load_in_8bit: true}",
		)
		f.Add(
			method, "TrainingArguments: {max_seq_length: .inf, learning_rate: .nan, bf16: yes}\nDataCollator: {mlm: [1]}", "{}",
		)
	}
	golden, err := filepath.Glob("testdata/*.json") // JSON is YAML
	require.NoError(f, err)
	for _, path := range golden {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add("qlora", string(text), "")
	}
	f.Fuzz(func(t *testing.T, method, text, overrides string) {
		var over map[string]map[string]any
		if yaml.Unmarshal([]byte(overrides), &over) != nil {
			over = nil
		}
		got, err := training.Parse(method, text, over)
		if err != nil {
			var bad *training.ConfigError
			require.ErrorAs(t, err, &bad)
			require.NotEmpty(t, bad.Why)
			return
		}
		document, err := got.JSON()
		require.NoError(t, err, "what is accepted can be handed to the trainer")
		again, err := training.Parse(method, text, over)
		require.NoError(t, err)
		other, err := again.JSON()
		require.NoError(t, err)
		require.Equal(t, document, other, "the same bytes for the same input")
		require.True(t, json.Valid([]byte(document)))

		assert.Equal(t, strings.ToLower(method), got.Method)
		four, eight := got.Quantization["load_in_4bit"] == true, got.Quantization["load_in_8bit"] == true
		assert.Equal(t, got.Method == training.QLoRA, four != eight, "%v", got.Quantization)
		assert.False(t, four && eight)
		assert.NotContains(t, got.Trainer, "output_dir")
		if path := got.Dataset.Path; path != "" {
			assert.True(t, filepath.IsLocal(path), path)
		}
		assert.True(t, got.Dataset.TrainFraction > 0 && got.Dataset.TrainFraction <= 1)
	})
}
