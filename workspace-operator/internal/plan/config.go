// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// decided are the engine's flags that the plan sets; a user's value for one would contradict it, so it is refused by
// name. It is never changed.
var decided = map[string]string{
	"tensor-parallel-size":         "the plan decides it: choose resource.instanceType or resource.count instead",
	"pipeline-parallel-size":       "the plan decides it: choose resource.count instead",
	"data-parallel-size":           "the plan decides it: choose resource.instanceType instead",
	"data-parallel-size-local":     "the plan decides it: choose resource.instanceType instead",
	"data-parallel-rank":           "the plan decides it",
	"data-parallel-address":        "the plan decides it",
	"data-parallel-rpc-port":       "the plan decides it",
	"data-parallel-backend":        "the plan decides it",
	"data-parallel-start-rank":     "the plan decides it",
	"enable-expert-parallel":       "the plan decides it",
	"distributed-executor-backend": "the plan decides it",
	"nnodes":                       "the plan decides it: choose resource.count instead",
	"node-rank":                    "the plan decides it",
	"master-addr":                  "the plan decides it",
	"master-port":                  "the plan decides it",
	"headless":                     "the plan decides it",
	"served-model-name":            "it is the Workspace's name",
	"model":                        "inference.preset names it",
	"model-tag":                    "inference.preset names it",
	"revision":                     "write it as name@revision in inference.preset.name",
	"code-revision":                "write it as name@revision in inference.preset.name",
	"tokenizer-mode":               "the catalogue decides it",
	"load-format":                  "the catalogue decides it",
	"config-format":                "the catalogue decides it",
	"trust-remote-code":            "it runs Python from the model's repository, so only the catalogue can ask for it",
	"hf-token":                     "name a Secret in inference.preset.presetOptions.modelAccessSecret",
	"host":                         "the engine is reached through the gateway only",
	"port":                         "the engine is reached through the gateway only",
	"uds":                          "the engine is reached through the gateway only",
	"root-path":                    "the engine is reached through the gateway only",
	"ssl-keyfile":                  "the engine is reached through the gateway only",
	"ssl-certfile":                 "the engine is reached through the gateway only",
	"api-key":                      "keys are set on the gateway",
	"enable-lora":                  "it follows from inference.adapters",
	"max-loras":                    "it follows from inference.adapters",
	"max-lora-rank":                "it follows from inference.adapters",
	"lora-modules":                 "it follows from inference.adapters",
	"download-dir":                 "weights have a volume of their own",
	"config":                       "write its keys here",
}

// decidedBy finds what the plan sets by a flag, or by a beginning of one, which the engine's parser would complete.
func decidedBy(flag string) (why string, fixed bool) {
	if why, fixed = decided[flag]; fixed || flag == "tokenizer" {
		return why, fixed
	}
	for _, name := range slices.Sorted(maps.Keys(decided)) {
		if strings.HasPrefix(name, flag) {
			return "it stands for " + name + ", and " + decided[name], true
		}
	}
	return "", false
}

var flagPattern = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)

// inference is what of inference_config.yaml the plan honours; the rest is passed on.
type inference struct {
	maxModelLen  int
	utilization  float64
	kvDtype      string
	quantization string
	dtype        string
	passed       map[string]string
}

func invalidConfig(file, key, format string, args ...any) *Refusal {
	return &Refusal{
		Reason:  kaitov1alpha1.ReasonInvalidConfig,
		Message: fmt.Sprintf("%s: %s: %s", file, key, fmt.Sprintf(format, args...)),
	}
}

// MaxConfigBytes is the largest inference_config.yaml or training_config.yaml that is parsed, in bytes. Parsing a
// hostile text of 1.2 MB took 2.9 s and 1.5 GiB of memory. The tuning-operator has the same limit.
const MaxConfigBytes = 128 << 10

// parseYAML reads a configuration file. The error is a *Refusal.
func parseYAML(file, text string) (map[string]any, error) {
	if len(text) > MaxConfigBytes {
		return nil, invalidConfig(
			file, "document", "has %d bytes; at most %d are allowed: shorten it", len(text), MaxConfigBytes,
		)
	}
	var document map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &document); err != nil {
		return nil, invalidConfig(file, "document", "invalid YAML: %s", oneLine(err))
	}
	return document, nil
}

// parseInference reads the section vllm of inference_config.yaml as YAML, so that quotes and comments mean what they
// mean.
func parseInference(text string) (inference, error) {
	const file = "inference_config.yaml"
	out := inference{passed: map[string]string{}}
	if strings.TrimSpace(text) == "" {
		return out, nil
	}
	document, err := parseYAML(file, text)
	if err != nil {
		return out, err
	}
	for _, key := range sortedKeys(document) {
		if key != "vllm" && key != "max_probe_steps" {
			return out, invalidConfig(file, key, "no such section; allowed: vllm")
		}
	}
	section, ok := document["vllm"].(map[string]any)
	if !ok && document["vllm"] != nil {
		return out, invalidConfig(file, "vllm", "is %T; allowed: a map of the engine's flags", document["vllm"])
	}
	for _, key := range sortedKeys(section) {
		if err := out.take(file, key, section[key]); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (c *inference) take(file, key string, value any) error {
	flag := strings.ReplaceAll(strings.TrimLeft(key, "-"), "_", "-")
	if !flagPattern.MatchString(flag) {
		return invalidConfig(file, "vllm."+key, "no name of a flag; allowed: small letters, digits, dots and dashes")
	}
	if why, fixed := decidedBy(strings.TrimPrefix(flag, "no-")); fixed {
		return invalidConfig(file, "vllm."+key, "may not be set: %s; remove the key", why)
	}
	text, err := scalar(value)
	if err != nil {
		return invalidConfig(file, "vllm."+key, "%s", err)
	}
	switch flag {
	case "max-model-len":
		n, err := tokens(text)
		if err != nil {
			return invalidConfig(
				file, "vllm."+key, "is %q; allowed: a whole number of tokens, at least 1, such as 8192 or 8K, or auto", text,
			)
		}
		c.maxModelLen = n
		return nil
	case "gpu-memory-utilization":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f <= 0.1 || f > 0.98 {
			return invalidConfig(file, "vllm."+key, "is %q; allowed: more than 0.1, at most 0.98", text)
		}
		c.utilization = f
		return nil
	case "kv-cache-dtype":
		if !slices.Contains([]string{"auto", "fp8", "fp8_e4m3", "fp8_e5m2"}, text) {
			return invalidConfig(file, "vllm."+key, "is %q; allowed: auto, fp8, fp8_e4m3, fp8_e5m2", text)
		}
		if text != "auto" {
			c.kvDtype = text
		}
		return nil
	case "dtype":
		if !slices.Contains([]string{"auto", "float16", "half", "bfloat16"}, text) {
			return invalidConfig(file, "vllm."+key, "is %q; allowed: auto, float16, bfloat16", text)
		}
		if text == "half" {
			text = "float16"
		}
		if text != "auto" {
			c.dtype = text
		}
		return nil
	case "quantization":
		c.quantization = text
		return nil
	}
	if _, twice := c.passed[flag]; twice {
		return invalidConfig(file, "vllm."+key, "is there twice, once with _ and once with -; remove one")
	}
	on, isSwitch := value.(bool)
	switchFlag(c.passed, flag, text, isSwitch, on)
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
	if err != nil || n != math.Trunc(n) || n < 1 || n > maxTokens {
		return 0, fmt.Errorf("%q is not a number of tokens", text)
	}
	return int(n), nil
}

// maxTokens bounds what the arithmetic is asked for.
const maxTokens = 1 << 24

// scalar is a value as the command line takes it; an empty text is a bare flag.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case bool:
		return strconv.FormatBool(v), nil
	case string:
		return v, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("is %T; allowed: a text, a number, true or false", value)
	}
	// Lists and maps are the engine's JSON flags.
	json, err := yaml.YAMLToJSON(text)
	if err != nil {
		return "", fmt.Errorf("is %T; allowed: a text, a number, true or false", value)
	}
	return string(json), nil
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
