// SPDX-License-Identifier: Apache-2.0

package training

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Version is the version of the document that the trainer reads.
const Version = 1

// The supported methods.
const (
	LoRA  = "lora"
	QLoRA = "qlora"
)

// The sections of training_config.yaml, with KAITO's names.
const (
	sectionModel        = "ModelConfig"
	sectionQuantization = "QuantizationConfig"
	sectionLora         = "LoraConfig"
	sectionArguments    = "TrainingArguments"
	sectionCollator     = "DataCollator"
	sectionDataset      = "DatasetConfig"
)

var sections = []string{
	sectionModel,
	sectionQuantization,
	sectionLora,
	sectionArguments,
	sectionCollator,
	sectionDataset,
}

// MaxBytes limits a configuration, which is a part of the Job's pod template.
const MaxBytes = 128 << 10

// ConfigError says why a configuration is invalid.
type ConfigError struct {
	// Key is the invalid section and key, or only the section.
	Key string
	Why string
	// Contradiction is true if each part alone would be valid.
	Contradiction bool
}

func (e *ConfigError) Error() string {
	if e.Key == "" {
		return "training configuration: " + e.Why
	}
	return "training configuration: " + e.Key + " " + e.Why
}

// Config is the trainer's configuration. The same input gives the same JSON.
type Config struct {
	Version      int            `json:"version"`
	Method       string         `json:"method"`
	Model        map[string]any `json:"model,omitempty"`
	ChatTemplate string         `json:"chatTemplate,omitempty"`
	Quantization map[string]any `json:"quantization,omitempty"`
	Lora         map[string]any `json:"lora"`
	Trainer      map[string]any `json:"trainer"`
	Dataset      Dataset        `json:"dataset"`

	// Notes tell the user which accepted keys have no effect, and why.
	Notes []string `json:"-"`
}

// Dataset says which columns are used for training, and how.
type Dataset struct {
	MessagesColumn   string  `json:"messagesColumn,omitempty"`
	PromptColumn     string  `json:"promptColumn,omitempty"`
	CompletionColumn string  `json:"completionColumn,omitempty"`
	TextColumn       string  `json:"textColumn,omitempty"`
	Path             string  `json:"path,omitempty"`
	Shuffle          bool    `json:"shuffle"`
	Seed             int64   `json:"seed"`
	TrainFraction    float64 `json:"trainFraction"`
	// MaxTruncatedAnswers is the share of the rows that may lose their whole answer because of max_length. nil: the
	// trainer's default, a tenth.
	MaxTruncatedAnswers *float64 `json:"maxTruncatedAnswers,omitempty"`
}

// JSON returns the document for the trainer.
func (c Config) JSON() (string, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encoding the training configuration: %w", err)
	}
	return string(raw), nil
}

type sectionMap map[string]map[string]any

// Parse parses a training_config.yaml (empty: KAITO's defaults for the method) and applies the overrides, which replace
// single keys. The error is a *ConfigError.
func Parse(method, text string, overrides map[string]map[string]any) (Config, error) {
	method = strings.ToLower(method)
	if method != LoRA && method != QLoRA {
		return Config{}, &ConfigError{Why: fmt.Sprintf("unknown method %q: use lora or qlora", method)}
	}
	in, err := read(text)
	if err != nil {
		return Config{}, err
	}
	if err := known(overrides, "overrides."); err != nil {
		return Config{}, err
	}
	if strings.TrimSpace(text) == "" && method == QLoRA {
		// The values of KAITO's qlora-params-template.
		in[sectionQuantization] = map[string]any{
			"load_in_4bit":              true,
			"bnb_4bit_quant_type":       "nf4",
			"bnb_4bit_compute_dtype":    "bfloat16",
			"bnb_4bit_use_double_quant": true,
		}
	}
	for section, keys := range overrides {
		if in[section] == nil {
			in[section] = map[string]any{}
		}
		maps.Copy(in[section], keys)
	}
	return build(method, in)
}

func read(text string) (sectionMap, error) {
	if len(text) > MaxBytes {
		return nil, &ConfigError{Why: fmt.Sprintf("it has %d bytes: the limit is %d bytes", len(text), MaxBytes)}
	}
	var doc map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &doc); err != nil {
		return nil, &ConfigError{Why: "invalid YAML: " + err.Error()}
	}
	if inner, ok := doc["training_config"]; ok {
		if len(doc) != 1 {
			return nil, &ConfigError{Why: "training_config must be the only key of the document: " + list(doc)}
		}
		m, ok := inner.(map[string]any)
		if !ok && inner != nil {
			return nil, &ConfigError{Key: "training_config", Why: "must contain the sections " + strings.Join(sections, ", ")}
		}
		doc = m
	}
	out := sectionMap{}
	for name, v := range doc {
		keys, ok := v.(map[string]any)
		if !ok && v != nil {
			return nil, &ConfigError{Key: name, Why: "must be a section with keys"}
		}
		if keys == nil {
			keys = map[string]any{}
		}
		out[name] = keys
	}
	return out, known(out, "")
}

func list(doc map[string]any) string {
	return "there are " + strings.Join(slices.Sorted(maps.Keys(doc)), ", ")
}

func known(m map[string]map[string]any, prefix string) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(sections, name) {
			return &ConfigError{Key: prefix + name, Why: "is not a section: use one of " + strings.Join(sections, ", ")}
		}
	}
	return nil
}
