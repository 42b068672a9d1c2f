// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/engineargs"
	"kaito.sh/workspace-operator/internal/configfile"
	"kaito.sh/workspace-operator/internal/engine"
)

// Section is the section of inference_config.yaml that has vLLM's flags.
const Section = "vllm"

// section is the configuration while it is read.
type section struct {
	engine.Config
	table *engineargs.Table
	// keys maps each flag to the key that set it.
	keys map[string]string
	// templates is the folder of the chat templates in the release's image.
	templates string
}

// ReadConfig reads the section vllm of inference_config.yaml. A key is refused where the release's own parser would
// refuse it, or where the plan decides the flag.
func (Engine) ReadConfig(text string, release catalog.Engine) (engine.Config, error) {
	out := section{Config: engine.Config{Section: Section, Passed: engine.Flags{}}, keys: map[string]string{}}
	if strings.TrimSpace(text) == "" {
		return out.Config, nil
	}
	var err error
	if out.table, err = engineargs.Closest(release.Version); err != nil {
		return out.Config, configfile.Wrong(engine.ConfigFile, Section, "%s", err)
	}
	document, err := configfile.Read(engine.ConfigFile, text)
	if err != nil {
		return out.Config, err
	}
	for _, key := range configfile.Keys(document) {
		if key != Section && !slices.Contains(kaitosOwn, key) {
			return out.Config, configfile.Wrong(engine.ConfigFile, key, "no such section; allowed: vllm")
		}
	}
	flags, ok := document[Section].(map[string]any)
	if !ok && document[Section] != nil {
		return out.Config, configfile.Wrong(
			engine.ConfigFile, Section, "is %T; allowed: a map of the engine's flags", document[Section],
		)
	}
	out.templates = release.TemplateDir
	for _, key := range configfile.Keys(flags) {
		if err := out.take(key, flags[key]); err != nil {
			return out.Config, err
		}
	}
	return out.Config, out.registered()
}

// kaitosOwn are keys beside the section that KAITO's files have. Its search for a context that fits is the plan's work
// here.
var kaitosOwn = []string{"max_probe_steps", "kv_cache_cpu_memory_utilization"}

func (c *section) take(key string, value any) error {
	setting, err := c.table.Setting(key, value)
	if err != nil {
		return c.refuse(key, err)
	}
	if setting == nil {
		return nil
	}
	if why, fixed := decided[setting.Flag.Name]; fixed {
		return c.Wrong(key, "may not be set: %s; remove the key", why)
	}
	if earlier, twice := c.keys[strings.TrimPrefix(setting.Name, "no-")]; twice {
		return c.Wrong(key, "sets the same flag as %s; remove one", earlier)
	}
	c.keys[strings.TrimPrefix(setting.Name, "no-")] = key
	if len(setting.Values) == 1 {
		if planned, err := c.plan(setting.Name, setting.Values[0]); planned || err != nil {
			if err != nil {
				return c.Wrong(key, "%s", err)
			}
			return nil
		}
	}
	if setting.Name == "chat-template" {
		path, err := c.template(setting.Values[0])
		if err != nil {
			return c.Wrong(key, "%s", err)
		}
		setting.Values = []string{path}
	}
	c.Passed[setting.Name] = setting.Values
	return nil
}

// refuse puts the table's error in the words of the plan, where the plan has some.
func (c *section) refuse(key string, err error) error {
	var ambiguous *engineargs.AmbiguousFlagError
	if why, fixed := decidedBy(key); fixed && errors.As(err, &ambiguous) {
		return c.Wrong(key, "may not be set: %s; remove the key", why)
	}
	var value *engineargs.ValueError
	if errors.As(err, &value) {
		if _, narrower := c.plan(value.Flag, value.Value); narrower != nil {
			err = narrower
		}
	}
	return c.Wrong(key, "%s", err)
}

// plan keeps what the plan needs to know. It returns false for a flag that is only passed on.
func (c *section) plan(flag, text string) (bool, error) {
	switch flag {
	case "max-model-len":
		n, err := tokens(text)
		c.MaxModelLen = n
		return true, err
	case "gpu-memory-utilization":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || f <= 0 || f > 0.98 {
			return true, fmt.Errorf("is %q; allowed: more than 0, at most 0.98", text)
		}
		c.Utilization = f
		return true, nil
	case "kv-cache-dtype":
		if !slices.Contains(cacheTypes, text) {
			return true, fmt.Errorf("is %q; allowed: %s", text, strings.Join(cacheTypes, ", "))
		}
		c.KVDtype = unlessAuto(text)
		return true, nil
	case "dtype":
		if text == "half" {
			text = "float16"
		}
		if !slices.Contains(dtypes, text) {
			return true, fmt.Errorf("is %q; allowed: %s", text, strings.Join(dtypes, ", "))
		}
		c.Dtype = unlessAuto(text)
		return true, nil
	case "quantization":
		c.Quantization = text
		return true, nil
	}
	return false, c.count(flag, text)
}

// count keeps a number that the plan needs to know, and that is passed on.
func (c *section) count(flag, text string) error {
	fields := map[string]*int{
		"max-num-batched-tokens": &c.BatchTokens, "kv-cache-memory-bytes": &c.CacheBytes,
		"num-gpu-blocks-override": &c.CacheBlocks,
	}
	field, known := fields[flag]
	if !known || strings.EqualFold(text, "none") || text == "" {
		return nil
	}
	n, ok := engineargs.Tokens(text) // sizes and counts are written alike
	if !ok || n < 1 || n > 1<<50 {
		return fmt.Errorf("is %q; allowed: a whole number, at least 1", text)
	}
	*field = int(n)
	return nil
}

// The types that the planner has figures for; the engine has more.
var (
	cacheTypes = []string{"auto", "fp8", "fp8_e4m3", "fp8_e5m2"}
	dtypes     = []string{"auto", "float16", "bfloat16"}
)

func unlessAuto(text string) string {
	if text == "auto" {
		return ""
	}
	return text
}

// tokens reads a length; 0, for auto and -1, leaves it to the plan.
func tokens(text string) (int, error) {
	if text = strings.TrimSpace(text); strings.EqualFold(text, "auto") || text == "-1" {
		return 0, nil
	}
	n, ok := engineargs.Tokens(text)
	if !ok || n < 1 || n > engine.MaxTokens {
		return 0, fmt.Errorf("is %q; allowed: a whole number of tokens, at least 1, such as 8192 or 8K, or auto", text)
	}
	return int(n), nil
}
