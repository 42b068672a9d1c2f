// SPDX-License-Identifier: Apache-2.0

package simtrainer

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"kaito.sh/e2e/sources"
)

// Weights are those of every adapter: by their digest an engine says that it serves one.
func Weights() []byte { return sources.Safetensors("base_model.model.lora_A.weight", 16) }

// template is a chat template.
const template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"

// WriteAdapter writes an adapter in PEFT's form, whole or not at all: as small as can be, for the base model. Where
// turns are trained, it has their template.
func WriteAdapter(folder, baseModel string, lora map[string]any, turns bool) error {
	config := map[string]any{
		"peft_type":      "LORA",
		"task_type":      "CAUSAL_LM",
		"r":              8,
		"lora_alpha":     16,
		"target_modules": []string{"qkv_proj"},
	}
	maps.Copy(config, lora)
	config["base_model_name_or_path"] = baseModel
	text, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing the adapter's configuration: %w", err)
	}
	part := folder + ".part"
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("writing the adapter: %w", err)
	}
	if err := os.MkdirAll(part, 0o755); err != nil { //nolint:gosec // the next container, another user's, reads it
		return fmt.Errorf("writing the adapter: %w", err)
	}
	files := map[string][]byte{"adapter_config.json": text, "adapter_model.safetensors": Weights()}
	if turns {
		files["chat_template.jinja"] = []byte(template)
	}
	for name, content := range files {
		if err := os.WriteFile(
			filepath.Join(part, name), content, 0o644,
		); err != nil { //nolint:gosec // the next container reads it
			return fmt.Errorf("writing the adapter: %w", err)
		}
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("replacing the adapter: %w", err)
	}
	if err := os.Rename(part, folder); err != nil {
		return fmt.Errorf("putting the adapter into place: %w", err)
	}
	return nil
}
