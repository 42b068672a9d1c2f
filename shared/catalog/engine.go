// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"strconv"
	"strings"
)

// Engine is an inference engine's image and the GPUs that it serves.
type Engine struct {
	Name           string
	Version        string
	Image          string
	MinCapability  ComputeCapability // inclusive
	MaxCapability  ComputeCapability // exclusive; zero: no upper bound
	Dtypes         []string          // 16-bit types the GPUs of this range compute in
	Env            map[string]string
	TokenizerModes []string // those it knows besides its own choice; empty: all that models ask for
	TemplateDir    string   // directory of the chat templates inside the image
	DataParallel   bool     // several copies of a model behind one server
	MultiNode      bool     // pipelines across nodes
	HybridCache    bool     // layers with a sliding window take no more cache than the window
}

// Serves says whether a GPU is in the engine's range.
func (e Engine) Serves(c ComputeCapability) bool {
	return !c.Less(e.MinCapability) && (e.MaxCapability.IsZero() || c.Less(e.MaxCapability))
}

// AtLeast compares the engine's version with one of the same engine.
func (e Engine) AtLeast(version string) bool { return !versionLess(e.Version, version) }

func (e Engine) clone() Engine {
	e.Dtypes = append([]string(nil), e.Dtypes...)
	e.TokenizerModes = append([]string(nil), e.TokenizerModes...)
	env := make(map[string]string, len(e.Env))
	for k, v := range e.Env {
		env[k] = v
	}
	e.Env = env
	return e
}

// Quantization is a way to store weights, and the GPUs that can compute with it.
type Quantization struct {
	Method        string
	Bits          int
	MinCapability ComputeCapability
	InFlight      bool // an engine can apply it to 16-bit weights while loading them
}

// versionLess orders dotted versions numerically; what is no number counts as 0.
func versionLess(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) || i < len(bs); i++ {
		x, y := versionPart(as, i), versionPart(bs, i)
		if x != y {
			return x < y
		}
	}
	return false
}

func versionPart(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}
