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
// models that the catalogue does not have, those that an administrator's catalogue describes otherwise, and releases
// that are older than the one that was asked.
func (Engine) Shape(model catalog.Model, release catalog.Engine, gpu catalog.ComputeCapability) *engine.Shape {
	name := "shapes/" + strings.ReplaceAll(model.ID, "/", "--")
	var s *shaped
	switch {
	case gpu.Less(hopper):
		s = shapeIn(name + "@8.0.json")
	case !gpu.Less(blackwell):
		s = shapeIn(name + "@12.0.json")
	}
	if s == nil {
		s = shapeIn(name + ".json")
	}
	if s == nil || !release.AtLeast(s.Release) || s.Hidden != model.Hidden {
		return nil
	}
	return &s.Shape
}

// The capabilities from which on the engine has other kernels for some kinds of weights. A GPU of 12.0 has fewer of
// them than one of 9.0: it lacks the larger Blackwell's instructions.
var (
	hopper    = catalog.ComputeCapability{Major: 9}
	blackwell = catalog.ComputeCapability{Major: 12}
)

// shapeIn returns the shape of an embedded file; nil: there is no such file.
func shapeIn(name string) *shaped {
	if known, ok := read.Load(name); ok {
		s, _ := known.(*shaped) // it stores nothing else
		return s
	}
	var s *shaped
	if text, err := shapes.ReadFile(name); err == nil {
		s = &shaped{}
		if err := json.Unmarshal(text, s); err != nil {
			panic(fmt.Sprintf("%s, which is embedded: %v", name, err))
		}
	}
	if s != nil { // what is absent is not remembered: users name models without bound
		read.Store(name, s)
	}
	return s
}
