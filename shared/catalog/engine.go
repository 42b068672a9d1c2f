// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"strconv"
	"strings"
)

// Engine describes an image of an inference engine and the GPUs that it supports.
type Engine struct {
	Name          string
	Version       string
	Image         string
	MinCapability ComputeCapability // inclusive
	MaxCapability ComputeCapability // exclusive; zero: no upper limit
	Dtypes        []string          // 16-bit types of the GPUs in this range
	Env           map[string]string
	TemplateDir   string // folder of the chat templates in the image
	DataParallel  bool   // several copies of a model behind one server
	MultiNode     bool   // pipelines across nodes
	HybridCache   bool   // layers with a sliding window need cache for the window only
}

// Serves returns whether the engine supports a GPU.
func (e Engine) Serves(c ComputeCapability) bool {
	return !c.Less(e.MinCapability) && (e.MaxCapability.IsZero() || c.Less(e.MaxCapability))
}

// AtLeast returns whether the engine's version is at least the given one.
func (e Engine) AtLeast(version string) bool { return !versionLess(e.Version, version) }

func (e Engine) clone() Engine {
	e.Dtypes = append([]string(nil), e.Dtypes...)
	env := make(map[string]string, len(e.Env))
	for k, v := range e.Env {
		env[k] = v
	}
	e.Env = env
	return e
}

// Quantization describes a quantization method and the GPUs that support it.
type Quantization struct {
	Method        string
	Bits          int
	MinCapability ComputeCapability
	InFlight      bool // engines can apply it to 16-bit weights during loading
}

// versionLess compares dotted versions numerically. A part that is not a number counts as 0.
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
