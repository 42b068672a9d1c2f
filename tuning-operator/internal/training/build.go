// SPDX-License-Identifier: Apache-2.0

package training

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func build(method string, in sectionMap) (Config, error) {
	c := Config{
		Version: Version,
		Method:  method,
		Model:   map[string]any{},
		Lora:    map[string]any{},
		Trainer: map[string]any{},
	}
	steps := []func(sectionMap) error{c.quantization, c.model, c.lora, c.arguments, c.collator, c.dataset}
	for _, step := range steps {
		if err := step(in); err != nil {
			return Config{}, err
		}
	}
	slices.Sort(c.Notes)
	return c, nil
}

func (c *Config) note(section, key, why string) {
	c.Notes = append(c.Notes, section+"."+key+" "+why)
}

// truth returns the value of a boolean key. A quoted value is an error.
func truth(in sectionMap, section, key string) (value, set bool, err error) {
	v, ok := in[section][key]
	if !ok || v == nil {
		return false, false, nil
	}
	b, ok := v.(bool)
	if !ok {
		return false, true, &ConfigError{Key: section + "." + key, Why: fmt.Sprintf("is %v: use true or false", v)}
	}
	return b, true, nil
}

func text(in sectionMap, section, key string) (string, error) {
	v, ok := in[section][key]
	if !ok || v == nil {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", &ConfigError{Key: section + "." + key, Why: fmt.Sprintf("is %v: use a text", v)}
	}
	return s, nil
}

func number(in sectionMap, section, key string) (float64, bool, error) {
	v, ok := in[section][key]
	if !ok || v == nil {
		return 0, false, nil
	}
	f, ok := v.(float64)
	if !ok {
		return 0, true, &ConfigError{Key: section + "." + key, Why: fmt.Sprintf("is %v: use a number", v)}
	}
	return f, true, nil
}

func (c *Config) quantization(in sectionMap) error {
	four, _, err := truth(in, sectionQuantization, "load_in_4bit")
	if err != nil {
		return err
	}
	eight, _, err := truth(in, sectionQuantization, "load_in_8bit")
	if err != nil {
		return err
	}
	const key4, both = sectionQuantization + ".load_in_4bit", sectionQuantization + ".load_in_4bit and load_in_8bit"
	switch {
	case four && eight:
		return &ConfigError{Key: both, Contradiction: true, Why: "are both true; keep one"}
	case c.Method == QLoRA && !four && !eight:
		return &ConfigError{
			Key:           both,
			Contradiction: true,
			Why:           "are both off, but the method is qlora; set one of them to true, or use method lora",
		}
	case c.Method == LoRA && (four || eight):
		key := key4
		if eight {
			key = sectionQuantization + ".load_in_8bit"
		}
		return &ConfigError{
			Key:           key,
			Contradiction: true,
			Why:           "is true, but the method is lora; use method qlora, or remove it",
		}
	}
	if method, err := text(in, sectionQuantization, "quant_method"); err != nil {
		return err
	} else if method != "" && method != "bitsandbytes" {
		return &ConfigError{
			Key: sectionQuantization + ".quant_method",
			Why: fmt.Sprintf("is %q: only bitsandbytes is supported", method),
		}
	}
	if c.Method == QLoRA {
		c.Quantization = maps.Clone(in[sectionQuantization])
		delete(c.Quantization, "quant_method")
	}
	return nil
}

// fixedModel are keys whose value is determined by the job.
var fixedModel = map[string]string{
	"pretrained_model_name_or_path": "is not used: the model is the one that the job names",
	"revision":                      "is not used: the job pins the revision",
	"cache_dir":                     "is not used: the model is in the pod before training starts",
	"local_files_only":              "is not used: the trainer never downloads",
	"force_download":                "is not used: the trainer never downloads",
	"resume_download":               "is not used: the trainer never downloads",
	"proxies":                       "is not used: the trainer never downloads",
	"device_map":                    "is not used: the trainer places one replica on each GPU",
}

func (c *Config) model(in sectionMap) (err error) {
	for _, key := range []string{"load_in_4bit", "load_in_8bit"} {
		on, _, err := truth(in, sectionModel, key)
		if err != nil {
			return err
		}
		if on {
			return &ConfigError{Key: sectionModel + "." + key, Why: "is not allowed here: set QuantizationConfig." + key}
		}
	}
	if err := c.chatTemplate(in); err != nil {
		return err
	}
	for key, v := range in[sectionModel] {
		switch why, fixed := fixedModel[key]; {
		case fixed:
			c.note(sectionModel, key, why)
		case key == "chat_template", key == "load_in_4bit", key == "load_in_8bit":
		default:
			c.Model[key] = v
		}
	}
	return nil
}

// chatTemplate reads the text of a template. A path would be a file of the trainer's image, which has none: the model
// would be trained on the path.
func (c *Config) chatTemplate(in sectionMap) (err error) {
	const key = "chat_template"
	if c.ChatTemplate, err = text(in, sectionModel, key); err != nil {
		return err
	}
	if t := c.ChatTemplate; t != "" && !strings.ContainsAny(t, "{}\n") {
		return &ConfigError{Key: sectionModel + "." + key, Why: fmt.Sprintf(
			"is %q, and the trainer has no such file: write the template's text, or remove the key to use the model's own", t,
		)}
	}
	path, err := text(in, sectionArguments, "chat_template_path")
	if err != nil || path == "" {
		return err
	}
	return &ConfigError{
		Key: sectionArguments + ".chat_template_path",
		Why: fmt.Sprintf("is %q: set %s.%s to the template's text", path, sectionModel, key),
	}
}

func (c *Config) lora(in sectionMap) error {
	maps.Copy(c.Lora, in[sectionLora])
	if r, set, err := number(in, sectionLora, "r"); err != nil {
		return err
	} else if set && (r < 1 || r != float64(int64(r))) {
		return &ConfigError{Key: sectionLora + ".r", Why: fmt.Sprintf("is %v: use a whole number of at least 1", r)}
	}
	if d, set, err := number(in, sectionLora, "lora_dropout"); err != nil {
		return err
	} else if set && (d < 0 || d >= 1) {
		return &ConfigError{Key: sectionLora + ".lora_dropout", Why: fmt.Sprintf("is %v: use 0 to less than 1", d)}
	}
	if _, set := c.Lora["target_modules"]; !set {
		c.Lora["target_modules"] = "all-linear"
	}
	if _, set := c.Lora["task_type"]; !set {
		c.Lora["task_type"] = "CAUSAL_LM"
	}
	return nil
}

// renamed are arguments that newer libraries have renamed.
var renamed = map[string]string{
	"max_seq_length":      "max_length",
	"evaluation_strategy": "eval_strategy",
	"no_cuda":             "use_cpu",
}

// fixedArguments are keys whose value is determined by the job.
var fixedArguments = map[string]string{
	"output_dir":             "is not used: adapters go to the job's output, checkpoints to its checkpoint volume",
	"overwrite_output_dir":   "is not used: checkpoints are resumed from",
	"resume_from_checkpoint": "is not used: the last whole checkpoint is resumed from",
	"save_strategy":          "is not used: spec.checkpoint says when checkpoints are written",
	"save_steps":             "is not used: spec.checkpoint says when checkpoints are written",
	"save_total_limit":       "is not used: spec.checkpoint says how many checkpoints are kept",
	"logging_dir":            "is not used: progress is in the job's status",
	"report_to":              "is not used: progress is in the job's status",
	"push_to_hub":            "is not used: adapters go to the job's output",
	"local_rank":             "is not used: the launcher sets it",
	"dataset_text_field":     "is not used: DatasetConfig names the columns",
	"load_best_model_at_end": "is not used: it needs evaluation at every checkpoint",
	"remove_unused_columns":  "is not used: the trainer keeps the columns it needs",
	"hub_token":              "is not used: adapters go to the job's output",
	"push_to_hub_token":      "is not used: adapters go to the job's output",
}

// defaultArguments replace defaultArguments of the library with those that KAITO's users know, from KAITO's templates
// and transformers' TrainingArguments, and with a logging interval that is short enough to show progress.
var defaultArguments = map[string]any{
	"per_device_train_batch_size": float64(1),
	"learning_rate":               5e-5,
	"num_train_epochs":            float64(3),
	"logging_steps":               float64(5),
	"ddp_find_unused_parameters":  false,
}

func (c *Config) arguments(in sectionMap) error {
	maps.Copy(c.Trainer, defaultArguments)
	given := in[sectionArguments]
	for key, v := range given {
		if why, fixed := fixedArguments[key]; fixed {
			c.note(sectionArguments, key, why)
			continue
		}
		if to, ok := renamed[key]; ok {
			if _, also := given[to]; also {
				return &ConfigError{
					Key:           sectionArguments + "." + key,
					Contradiction: true,
					Why:           "and " + to + " mean the same; keep " + to,
				}
			}
			key = to
		}
		c.Trainer[key] = v
	}
	half, _, err := truth(in, sectionArguments, "fp16")
	if err != nil {
		return err
	}
	brain, _, err := truth(in, sectionArguments, "bf16")
	if err != nil {
		return err
	}
	if half && brain {
		return &ConfigError{Key: sectionArguments + ".fp16 and bf16", Contradiction: true, Why: "are both true; keep one"}
	}
	for _, key := range []string{
		"num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "logging_steps",
	} {
		if n, set, err := number(in, sectionArguments, key); err != nil {
			return err
		} else if set && n <= 0 {
			return &ConfigError{Key: sectionArguments + "." + key, Why: fmt.Sprintf("is %v: use more than 0", n)}
		}
	}
	return nil
}

func (c *Config) collator(in sectionMap) error {
	for key, v := range in[sectionCollator] {
		switch key {
		case "mlm",
			"mlm_probability",
			"mask_replace_prob",
			"random_replace_prob",
			"return_tensors",
			"tf_experimental_compile",
			"tokenizer":
			// KAITO's template sets mlm as an example. Causal models are not trained by masking.
			c.note(sectionCollator, key, "is not used: these models are trained on the next token")
		default:
			if _, also := c.Trainer[key]; also {
				return &ConfigError{
					Key:           sectionCollator + "." + key,
					Contradiction: true,
					Why:           "is set in TrainingArguments too; keep one",
				}
			}
			c.Trainer[key] = v
		}
	}
	return nil
}
