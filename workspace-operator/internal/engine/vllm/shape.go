// SPDX-License-Identifier: Apache-2.0

package vllm

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// shapes are written by hack/catalogue, a file a model.
//
//go:embed shapes/*.json
var shapes embed.FS

// shaped is a file of shapes.
type shaped struct {
	Model   string `json:"model"`
	Release string `json:"release"`
	engine.Shape
}

// read has the shapes that were asked for; there are as many as files.
var read sync.Map

// Shape returns what the release needs for the model; nil where the engine was not asked about it, which includes all
// models that the catalogue does not have, and releases that are older than the one that was asked.
func (Engine) Shape(model catalog.Model, release catalog.Engine) *engine.Shape {
	name := "shapes/" + strings.ReplaceAll(model.ID, "/", "--") + ".json"
	known, ok := read.Load(name)
	if !ok {
		text, err := shapes.ReadFile(name)
		if err != nil {
			return nil // not asked
		}
		s := &shaped{}
		if err := json.Unmarshal(text, s); err != nil {
			panic(fmt.Sprintf("%s, which is embedded: %v", name, err))
		}
		known, _ = read.LoadOrStore(name, s)
	}
	s, ok := known.(*shaped)
	if !ok || !release.AtLeast(s.Release) {
		return nil
	}
	return &s.Shape
}
