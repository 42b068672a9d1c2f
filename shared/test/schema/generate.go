// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// Generator generates objects that are nearly valid, from a seed.
type Generator struct{ rand *rand.Rand }

// NewGenerator returns a Generator whose objects depend only on the seed.
func NewGenerator(seed uint64) *Generator {
	return &Generator{rand: rand.New(rand.NewPCG(seed, seed>>32^0x9e3779b9))}
}

// Mutate replaces one to four parts of the object by values that match the schema, or in one of six cases by a value of
// another type.
func (g *Generator) Mutate(v *Version, object map[string]any) {
	for range 1 + g.rand.IntN(4) {
		g.mutate(v.structural, object, 0)
	}
}

// mutate replaces one member of the object or a part of it.
func (g *Generator) mutate(s *schema.Structural, object map[string]any, depth int) {
	name, child := g.member(s, object, depth)
	if name == "" {
		return
	}
	switch present := object[name].(type) {
	case map[string]any:
		if g.chance(4, 5) && child != nil {
			g.mutate(child, present, depth+1)
			return
		}
	case []any:
		if len(present) > 0 && g.chance(4, 5) && child != nil && child.Items != nil {
			i := g.rand.IntN(len(present))
			if inner, ok := present[i].(map[string]any); ok && g.chance(3, 4) {
				g.mutate(child.Items, inner, depth+1)
				return
			}
			present[i] = g.value(child.Items, depth+1)
			return
		}
	}
	object[name] = g.value(child, depth+1)
}

// member chooses a member of the object, present or not, and returns its schema, or nil if it has none. It never
// chooses the identity of the object.
func (g *Generator) member(s *schema.Structural, object map[string]any, depth int) (string, *schema.Structural) {
	names := slices.Collect(maps.Keys(s.Properties))
	if s.XPreserveUnknownFields {
		names = append(slices.Collect(maps.Keys(object)), podFields...)
	}
	if depth == 0 {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "apiVersion" || n == "kind" || n == "metadata" })
	}
	if len(names) == 0 {
		if s.AdditionalProperties == nil || s.AdditionalProperties.Structural == nil {
			return "", nil
		}
		return g.one(keys), s.AdditionalProperties.Structural
	}
	slices.Sort(names)
	name := g.one(names)
	if child, ok := s.Properties[name]; ok {
		return name, &child
	}
	return name, &schema.Structural{Extensions: schema.Extensions{XPreserveUnknownFields: true}}
}

// value returns a value for a schema.
func (g *Generator) value(s *schema.Structural, depth int) any {
	if s == nil || depth > 12 || g.chance(1, 6) {
		return g.anything(2)
	}
	switch {
	case s.XIntOrString:
		if g.chance(1, 2) {
			return g.number()
		}
		return g.text(s)
	case s.Type == "object" && s.XPreserveUnknownFields:
		return g.podLike(3)
	case s.Type == "object":
		return g.object(s, depth)
	case s.Type == "array":
		return g.list(s, depth)
	case s.Type == "integer" || s.Type == "number":
		return g.number()
	case s.Type == "boolean":
		return g.chance(1, 2)
	case s.Type == "string":
		return g.text(s)
	}
	return g.anything(2)
}

func (g *Generator) object(s *schema.Structural, depth int) map[string]any {
	out := map[string]any{}
	required := []string{}
	if s.ValueValidation != nil {
		required = s.ValueValidation.Required
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if child := s.Properties[name]; slices.Contains(required, name) || g.chance(1, 3) {
			out[name] = g.value(&child, depth+1)
		}
	}
	if s.AdditionalProperties != nil {
		for range g.rand.IntN(3) {
			out[g.one(keys)] = g.value(s.AdditionalProperties.Structural, depth+1)
		}
	}
	return out
}

func (g *Generator) list(s *schema.Structural, depth int) []any {
	out := []any{}
	for range g.rand.IntN(4) {
		out = append(out, g.value(s.Items, depth+1))
	}
	return out
}

// text returns a string of the enumeration, one that matches the pattern, or any of texts.
func (g *Generator) text(s *schema.Structural) any {
	if v := s.ValueValidation; v != nil {
		if len(v.Enum) > 0 && g.chance(5, 6) {
			return v.Enum[g.rand.IntN(len(v.Enum))].Object
		}
		if v.Pattern != "" && g.chance(2, 3) {
			if text, ok := g.matching(v.Pattern); ok {
				return text
			}
		}
		if strings.HasPrefix(v.Format, "date") {
			return g.one(times)
		}
	}
	return g.one(texts)
}

func (g *Generator) number() any {
	switch g.rand.IntN(5) {
	case 0:
		return g.rand.Float64() * math.Pow(10, float64(g.rand.IntN(40)))
	case 1:
		return int64(g.rand.IntN(10))
	}
	return numbers[g.rand.IntN(len(numbers))]
}

// anything returns any JSON value.
func (g *Generator) anything(depth int) any {
	switch g.rand.IntN(8) {
	case 0:
		return nil
	case 1:
		return g.chance(1, 2)
	case 2:
		return g.number()
	case 3, 4:
		return g.one(texts)
	case 5:
		return []any{}
	}
	if depth == 0 {
		return map[string]any{}
	}
	if g.chance(1, 3) {
		return []any{g.anything(depth - 1), g.anything(depth - 1)}
	}
	return g.podLike(depth)
}

// podLike returns an object with the names of pod fields and any values.
func (g *Generator) podLike(depth int) map[string]any {
	out := map[string]any{}
	for range 1 + g.rand.IntN(3) {
		out[g.one(podFields)] = g.anything(depth - 1)
	}
	return out
}

func (g *Generator) chance(n, of int) bool { return g.rand.IntN(of) < n }

func (g *Generator) one(of []string) string { return of[g.rand.IntN(len(of))] }
