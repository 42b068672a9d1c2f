// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"kaito.sh/workspace-operator/internal/configfile"
	"kaito.sh/workspace-operator/internal/engine"
)

// Section is the section of inference_config.yaml that has vLLM's flags.
const Section = "vllm"

var flagPattern = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)

// section is the configuration while it is read.
type section struct{ engine.Config }

// ReadConfig reads the section vllm of inference_config.yaml.
func (Engine) ReadConfig(text string) (engine.Config, error) {
	out := section{engine.Config{Section: Section, Passed: map[string]string{}}}
	if strings.TrimSpace(text) == "" {
		return out.Config, nil
	}
	document, err := configfile.Read(engine.ConfigFile, text)
	if err != nil {
		return out.Config, err
	}
	for _, key := range configfile.Keys(document) {
		if key != Section && key != "max_probe_steps" {
			return out.Config, configfile.Wrong(engine.ConfigFile, key, "no such section; allowed: vllm")
		}
	}
	flags, ok := document[Section].(map[string]any)
	if !ok && document[Section] != nil {
		return out.Config, configfile.Wrong(
			engine.ConfigFile, Section, "is %T; allowed: a map of the engine's flags", document[Section],
		)
	}
	for _, key := range configfile.Keys(flags) {
		if err := out.take(key, flags[key]); err != nil {
			return out.Config, err
		}
	}
	return out.Config, nil
}

func (c *section) take(key string, value any) error {
	flag := strings.ReplaceAll(strings.TrimLeft(key, "-"), "_", "-")
	if !flagPattern.MatchString(flag) {
		return c.Wrong(key, "no name of a flag; allowed: small letters, digits, dots and dashes")
	}
	if why, fixed := decidedBy(strings.TrimPrefix(flag, "no-")); fixed {
		return c.Wrong(key, "may not be set: %s; remove the key", why)
	}
	text, err := configfile.Scalar(value)
	if err != nil {
		return c.Wrong(key, "%s", err)
	}
	switch flag {
	case "max-model-len":
		n, err := tokens(text)
		if err != nil {
			return c.Wrong(
				key, "is %q; allowed: a whole number of tokens, at least 1, such as 8192 or 8K, or auto", text,
			)
		}
		c.MaxModelLen = n
		return nil
	case "gpu-memory-utilization":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f <= 0.1 || f > 0.98 {
			return c.Wrong(key, "is %q; allowed: more than 0.1, at most 0.98", text)
		}
		c.Utilization = f
		return nil
	case "kv-cache-dtype":
		if !slices.Contains([]string{"auto", "fp8", "fp8_e4m3", "fp8_e5m2"}, text) {
			return c.Wrong(key, "is %q; allowed: auto, fp8, fp8_e4m3, fp8_e5m2", text)
		}
		if text != "auto" {
			c.KVDtype = text
		}
		return nil
	case "dtype":
		if !slices.Contains([]string{"auto", "float16", "half", "bfloat16"}, text) {
			return c.Wrong(key, "is %q; allowed: auto, float16, bfloat16", text)
		}
		if text == "half" {
			text = "float16"
		}
		if text != "auto" {
			c.Dtype = text
		}
		return nil
	case "quantization":
		c.Quantization = text
		return nil
	}
	if _, twice := c.Passed[flag]; twice {
		return c.Wrong(key, "is there twice, once with _ and once with -; remove one")
	}
	on, isSwitch := value.(bool)
	switchFlag(c.Passed, flag, text, isSwitch, on)
	return nil
}

// tokens reads what vLLM reads: 8192, 8k (8000), 8K (8192), and auto or -1 for 0, which leaves it to the plan.
func tokens(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "auto" || text == "-1" {
		return 0, nil
	}
	unit := 1.0
	for suffix, factor := range map[string]float64{"k": 1e3, "K": 1 << 10, "m": 1e6, "M": 1 << 20} {
		if rest, found := strings.CutSuffix(text, suffix); found {
			text, unit = rest, factor
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	n *= unit
	if err != nil || n != math.Trunc(n) || n < 1 || n > engine.MaxTokens {
		return 0, fmt.Errorf("%q is not a number of tokens", text)
	}
	return int(n), nil
}
