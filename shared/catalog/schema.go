// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder decodes a document by a schema in code: each field has a setter that checks and stores its value. An invalid
// value and an unknown field are errors with their line.
type decoder struct {
	file string
}

// setter checks and stores a value.
type setter func(d decoder, path string, n *yaml.Node) error

type field struct {
	name     string
	required bool
	set      setter
}

func required(name string, set setter) field { return field{name: name, required: true, set: set} }

func optional(name string, set setter) field { return field{name: name, set: set} }

func (d decoder) errorf(path string, n *yaml.Node, allowed string) error {
	value := n.Value
	switch n.Kind {
	case yaml.MappingNode:
		value = "a mapping"
	case yaml.SequenceNode:
		value = "a list"
	}
	return &SchemaError{File: d.file, Line: n.Line, Field: path, Value: value, Allowed: allowed}
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// root parses a document. The root of an empty document is nil.
func (d decoder) root(document []byte) (*yaml.Node, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(document, &n); err != nil {
		line := 0
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1]) // the pattern matches digits only
		}
		return nil, &SchemaError{File: d.file, Line: line, Field: "document", Value: err.Error(), Allowed: "YAML"}
	}
	if len(n.Content) == 0 || n.Content[0].Tag == "!!null" {
		return nil, nil
	}
	return n.Content[0], nil
}

// object decodes a mapping with the given fields.
func (d decoder) object(path string, n *yaml.Node, fields ...field) error {
	if n.Kind != yaml.MappingNode {
		return d.errorf(path, n, "a mapping")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, known := findField(fields, key.Value)
		if !known || seen[key.Value] {
			return d.errorf(join(path, key.Value), key, "each of these once: "+fieldNames(fields))
		}
		seen[key.Value] = true
		if err := f.set(d, join(path, key.Value), value); err != nil {
			return err
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			return d.errorf(
				join(path, f.name), &yaml.Node{Kind: yaml.ScalarNode, Line: n.Line, Value: "missing"},
				"any value: the field is required",
			)
		}
	}
	return nil
}

func findField(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func fieldNames(fields []field) string {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// list calls set for each item.
func list(set func(d decoder, path string, n *yaml.Node) error) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		if n.Kind != yaml.SequenceNode {
			return d.errorf(path, n, "a list")
		}
		for i, item := range n.Content {
			if err := set(d, fmt.Sprintf("%s[%d]", path, i), item); err != nil {
				return err
			}
		}
		return nil
	}
}

// entries calls set for each key and value of a mapping with any keys.
func entries(set func(d decoder, path, key string, n *yaml.Node) error) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		if n.Kind != yaml.MappingNode {
			return d.errorf(path, n, "a mapping")
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if seen[key] {
				return d.errorf(join(path, key), n.Content[i], "each key once")
			}
			seen[key] = true
			if err := set(d, join(path, key), key, n.Content[i+1]); err != nil {
				return err
			}
		}
		return nil
	}
}

func text(to *string, pattern *regexp.Regexp, allowed string) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || !pattern.MatchString(n.Value) {
			return d.errorf(path, n, allowed)
		}
		*to = n.Value
		return nil
	}
}

func oneOf(to *string, allowed ...string) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		for _, a := range allowed {
			if n.Kind == yaml.ScalarNode && n.Value == a {
				*to = a
				return nil
			}
		}
		return d.errorf(path, n, strings.Join(allowed, ", "))
	}
}

func texts(to *[]string, pattern *regexp.Regexp, allowed string) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		*to = nil
		return list(func(d decoder, path string, item *yaml.Node) error {
			var s string
			if err := text(&s, pattern, allowed)(d, path, item); err != nil {
				return err
			}
			*to = append(*to, s)
			return nil
		})(d, path, n)
	}
}

func flag(to *bool) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(to) != nil {
			return d.errorf(path, n, "true or false")
		}
		return nil
	}
}

// count accepts whole numbers from least to most.
func count[T int | int64](to *T, least, most T) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		v, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || err != nil || T(v) < least || T(v) > most {
			return d.errorf(path, n, fmt.Sprintf("a whole number from %d to %d", least, most))
		}
		*to = T(v)
		return nil
	}
}

// measure accepts numbers above 0 and at most most.
func measure(to *float64, most float64) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		v, err := strconv.ParseFloat(n.Value, 64)
		if n.Kind != yaml.ScalarNode || err != nil || !(v > 0 && v <= most) {
			return d.errorf(path, n, fmt.Sprintf("a number above 0, at most %g", most))
		}
		*to = v
		return nil
	}
}

func capability(to *ComputeCapability) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		c, err := ParseComputeCapability(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			return d.errorf(path, n, "MAJOR.MINOR, for example 8.0")
		}
		*to = c
		return nil
	}
}

func stringMap(to *map[string]string) setter {
	return func(d decoder, path string, n *yaml.Node) error {
		*to = map[string]string{}
		return entries(func(d decoder, path, key string, n *yaml.Node) error {
			if n.Kind != yaml.ScalarNode {
				return d.errorf(path, n, "a text")
			}
			(*to)[key] = n.Value
			return nil
		})(d, path, n)
	}
}
