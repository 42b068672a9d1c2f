// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"kaito.sh/shared/catalog"
)

// caches is written by hack/catalogue: what the engine said about each model on each kind of GPU.
//
//go:embed caches.json
var caches []byte

// cacheTable has the types of KV cache that are accepted, by model and compute capability.
type cacheTable struct {
	Release string                         `json:"release"`
	Models  map[string]map[string][]string `json:"models"`
}

var readCaches = sync.OnceValue(func() *cacheTable {
	t := &cacheTable{}
	if err := json.Unmarshal(caches, t); err != nil {
		panic(fmt.Sprintf("caches.json, which is embedded: %v", err))
	}
	return t
})

// CacheTypes returns the types of KV cache, of auto and fp8, that the release accepts for a model on a GPU. known is
// false where the engine was not asked.
func (Engine) CacheTypes(
	model catalog.Model, release catalog.Engine, gpu catalog.ComputeCapability,
) (types []string, known bool) {
	t := readCaches()
	if !release.AtLeast(t.Release) {
		return nil, false
	}
	types, known = t.Models[model.ID][gpu.String()]
	return types, known
}
