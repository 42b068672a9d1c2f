// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

type schema = apiextensionsv1.JSONSchemaProps

func readDefinition(file string) (*apiextensionsv1.CustomResourceDefinition, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the definition: %w", err)
	}
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, definition); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return definition, nil
}

func storedVersion(
	definition *apiextensionsv1.CustomResourceDefinition,
) (*apiextensionsv1.CustomResourceDefinitionVersion, error) {
	for i := range definition.Spec.Versions {
		if v := &definition.Spec.Versions[i]; v.Storage && v.Schema != nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%s has no stored version with a schema", definition.Name)
}

// known are Kubernetes' types, recognized by their fields. Kubernetes documents them.
var known = []struct {
	name   string
	fields []string
}{
	{"Condition", []string{"lastTransitionTime", "message", "reason", "status", "type"}},
	{"LabelSelector", []string{"matchExpressions", "matchLabels"}},
	{"NodeSelectorRequirement", []string{"key", "operator", "values"}},
	{"Taint", []string{"effect", "key", "timeAdded", "value"}},
	{"Toleration", []string{"effect", "key", "operator", "tolerationSeconds", "value"}},
}

// knownType is the name of a type of Kubernetes' own; empty for others.
func knownType(s *schema) string {
	for _, k := range known {
		lacks := func(field string) bool { _, ok := s.Properties[field]; return !ok }
		if len(s.Properties) > 0 && len(s.Properties) <= len(k.fields)+1 && !slices.ContainsFunc(k.fields, lacks) {
			return k.name
		}
	}
	return ""
}

// typeOf names a field's type; inner is the object that has a section of its own, nil where there is none.
func typeOf(s *schema) (name string, inner *schema) {
	switch {
	case s.Type == "array" && s.Items != nil && s.Items.Schema != nil:
		name, inner = typeOf(s.Items.Schema)
		return "[]" + name, inner
	case s.Type == "object" && s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		name, inner = typeOf(s.AdditionalProperties.Schema)
		return "map of " + name, inner
	case s.XIntOrString:
		return "quantity", nil
	case knownType(s) != "":
		return knownType(s), nil
	case len(s.Properties) > 0:
		return "object", s
	case s.Format != "" && s.Type == "string":
		return s.Format, nil
	}
	return s.Type, nil
}

// rules are what a value has to keep besides its type, and what it is without one.
func rules(s *schema, required bool) []string {
	var out []string
	if required {
		out = append(out, "required")
	}
	if s.Default != nil {
		out = append(out, "default `"+strings.Trim(string(s.Default.Raw), `"`)+"`")
	}
	out = append(out, bounds(s, "")...)
	if s.Items != nil && s.Items.Schema != nil {
		out = append(out, bounds(s.Items.Schema, "each ")...)
	}
	if name, inner := typeOf(s); inner == nil || strings.HasPrefix(name, "[]") {
		out = append(out, messages(s)...) // an object's own are in its section
	}
	return out
}

// bounds are the allowed values. The type date-time says all of its own: its pattern and bounds only make the API
// server keep to RFC 3339.
func bounds(s *schema, each string) []string {
	if s.Format == "date-time" {
		return nil
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, each+fmt.Sprintf(format, args...)) }
	if len(s.Enum) > 0 {
		var values []string
		for _, value := range s.Enum {
			values = append(values, "`"+strings.Trim(string(value.Raw), `"`)+"`")
		}
		add("one of %s", strings.Join(values, ", "))
	}
	number := func(f *float64) string { return strconv.FormatFloat(*f, 'f', -1, 64) }
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		add("%s to %s", number(s.Minimum), number(s.Maximum))
	case s.Minimum != nil:
		add("at least %s", number(s.Minimum))
	case s.Maximum != nil:
		add("at most %s", number(s.Maximum))
	}
	if s.Pattern != "" {
		add("matches `%s`", s.Pattern)
	}
	if s.MinLength != nil && *s.MinLength > 0 {
		add("not empty")
	}
	for _, most := range []struct {
		bound *int64
		of    string
	}{{s.MaxLength, "characters"}, {s.MaxItems, "items"}, {s.MaxProperties, "entries"}} {
		if most.bound != nil {
			add("at most %d %s", *most.bound, most.of)
		}
	}
	return out
}

// messages are what the API server answers where a rule between fields is broken.
func messages(s *schema) []string {
	var out []string
	for _, rule := range s.XValidations {
		if rule.Message != "" {
			out = append(out, "“"+rule.Message+"”")
		}
	}
	return out
}
