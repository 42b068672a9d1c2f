// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	gojson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/json"
)

// maxValue is the length in bytes to which an error shortens an invalid value.
const maxValue = 64

// finding is the smallest part of a document that does not decode.
// +kubebuilder:object:generate=false
type finding struct {
	// path is relative to the document, for example .spec.containers[0].image.
	path  string
	value any
	err   error
}

// locate returns the smallest part of raw because of which raw does not decode into a T. It decodes each child alone,
// in an otherwise empty document, and descends into the first one that fails. Its cost is the size of raw times its
// depth.
func locate[T any](raw []byte) finding {
	var root any
	if err := json.Unmarshal(raw, &root); err != nil {
		return finding{err: err}
	}
	found := finding{value: root}
	wrap := func(inner any) any { return inner }
	for {
		step, ok := failing[T](found.value, wrap)
		if !ok {
			return found
		}
		found.path += step.path
		found.value, found.err = step.value, step.err
		outer, in := wrap, step.in
		wrap = func(inner any) any { return outer(in(inner)) }
	}
}

// child is a part of a value. in returns the value with another value in the place of the child.
// +kubebuilder:object:generate=false
type child struct {
	finding
	in func(any) any
}

// failing returns the first child of v that does not decode alone.
func failing[T any](v any, wrap func(any) any) (child, bool) {
	for _, c := range children(v) {
		if c.err = try[T](wrap(c.in(c.value))); c.err != nil {
			return c, true
		}
	}
	return child{}, false
}

// children lists the members of an object by name, or the items of a list in order.
func children(v any) []child {
	var out []child
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out = append(
				out,
				child{
					finding: finding{path: member(name), value: v[name]},
					in:      func(inner any) any { return map[string]any{name: inner} },
				},
			)
		}
	case []any:
		for i, item := range v {
			out = append(
				out,
				child{finding: finding{path: fmt.Sprintf("[%d]", i), value: item}, in: func(inner any) any { return []any{inner} }},
			)
		}
	}
	return out
}

// member is a name as a part of a path.
func member(name string) string {
	if name == "" || strings.ContainsAny(name, ".[]/ \"'\n") {
		return fmt.Sprintf("[%q]", name)
	}
	return "." + name
}

func try[T any](v any) error {
	raw, err := gojson.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, new(T))
}

// shown returns the value as JSON, shortened to maxValue.
func (f finding) shown() string {
	raw, err := gojson.Marshal(f.value)
	if err != nil || len(raw) <= maxValue {
		return string(raw)
	}
	cut := maxValue
	for cut > 0 && !utf8.RuneStart(raw[cut]) {
		cut--
	}
	return string(raw[:cut]) + "…"
}

// cause returns the error of the smallest part, or whole if no part fails alone.
func (f finding) cause(whole error) error {
	if f.err != nil {
		return f.err
	}
	return whole
}

// plain returns an error that names the JSON types instead of the Go types, which users do not know.
func plain(err error) error {
	var wrong *gojson.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%w: found %s, need %s", errWrongType, wrong.Value, jsonType(wrong.Type.Kind()))
	}
	return err
}

var errWrongType = errors.New("wrong type")

// jsonType returns the JSON type that a Go type of the kind decodes from.
func jsonType(kind reflect.Kind) string {
	switch kind {
	case reflect.Slice, reflect.Array:
		return "list"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "object"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "whole number"
	}
	return kind.String()
}
