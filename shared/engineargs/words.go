// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"kaito.sh/shared/catalog"
)

// Setting is a flag with its values, as the engine's parser takes them.
type Setting struct {
	// Name without dashes. It begins with no- for a switch that is off, and has a path after a dot for a part of an
	// object.
	Name string
	// Flag is the table's.
	Flag Flag
	// Values follow the flag. A switch has none.
	Values []string
}

// Setting reads a key of a YAML document with its value. It returns nil for a setting that is the absence of a flag.
// The error is an *UnknownFlagError, an *AmbiguousFlagError or a *ValueError.
func (t *Table) Setting(key string, value any) (*Setting, error) {
	name, path, dotted := strings.Cut(strings.TrimLeft(key, "-"), ".")
	found, err := t.find("--" + strings.ReplaceAll(name, "_", "-"))
	if err != nil {
		return nil, err
	}
	f := found.flag
	if dotted {
		return f.part(path, value)
	}
	if f.Switch() {
		return f.toggle(found.off, value)
	}
	s := &Setting{Name: f.Name, Flag: f}
	items, isList := value.([]any)
	if !isList || !f.Several() {
		items = []any{value}
	}
	if len(items) == 0 && f.Values == "+" {
		return nil, f.wrong("[]", "at least one value")
	}
	for _, item := range items {
		word, err := f.word(item)
		if err != nil {
			return nil, err
		}
		s.Values = append(s.Values, word)
	}
	return s, nil
}

// toggle reads the value of a switch: true, false or no value. off: the key is the opposite form.
func (f Flag) toggle(off bool, value any) (*Setting, error) {
	on, err := boolean(value)
	if err != nil {
		return nil, f.wrong(shown(value), "true, false")
	}
	switch on = on != off; {
	case on:
		return &Setting{Name: f.Name, Flag: f}, nil
	case f.Kind == KindOnlyOn:
		return nil, nil //nolint:nilnil // what is off by default and has no opposite form is left out
	}
	return &Setting{Name: "no-" + f.Name, Flag: f}, nil
}

func boolean(value any) (bool, error) {
	switch v := value.(type) {
	case nil:
		return true, nil // a key without a value
	case bool:
		return v, nil
	case string:
		return strconv.ParseBool(strings.ToLower(v))
	}
	return false, fmt.Errorf("%v is not a boolean", value)
}

// part reads NAME.PATH: a field of an object. The engine joins all parts of an object before it checks them.
func (f Flag) part(path string, value any) (*Setting, error) {
	switch f.Kind {
	case KindObject, KindJSON, KindJSONOrText:
	default:
		return nil, f.wrong(f.Name+"."+path, "only "+f.Name+", since its value has no fields")
	}
	word, err := text(value)
	if err != nil {
		return nil, err
	}
	document := fieldValue(word)
	keys := strings.Split(strings.TrimSuffix(path, "+"), ".")
	if strings.HasSuffix(path, "+") {
		document = list(word)
	}
	for i := len(keys) - 1; i >= 0; i-- {
		document = map[string]any{keys[i]: document}
	}
	whole, err := json.Marshal(document)
	if err != nil {
		return nil, f.wrong(shown(value), "JSON")
	}
	if err := f.check(string(whole)); err != nil {
		return nil, err
	}
	return &Setting{Name: f.Name + "." + path, Flag: f, Values: []string{word}}, nil
}

// fieldValue is what the engine makes of the text of a field: JSON, a number with a unit, or text.
func fieldValue(word string) any {
	var value any
	decoder := json.NewDecoder(strings.NewReader(word))
	decoder.UseNumber()
	if decoder.Decode(&value) == nil && !decoder.More() {
		return value
	}
	if n, ok := Tokens(word); ok {
		return n
	}
	return word
}

func list(word string) []any {
	var items []any
	for _, item := range strings.Split(word, ",") {
		items = append(items, item)
	}
	return items
}

// word is one value as a command line has it.
func (f Flag) word(value any) (string, error) {
	if value == nil && !f.Optional {
		return "", f.wrong("null", kindOr(f))
	}
	if b, isBool := value.(bool); isBool && f.Kind != KindText && f.Kind != KindJSON && f.Kind != KindObject {
		return "", f.wrong(strconv.FormatBool(b), kindOr(f))
	}
	word, err := text(value)
	if err != nil {
		return "", err
	}
	return word, f.check(word)
}

func kindOr(f Flag) string {
	if len(f.Choices) > 0 {
		return strings.Join(f.Choices, ", ")
	}
	if allowed := kinds[f.Kind]; allowed != "" {
		return allowed
	}
	return "a text"
}

// text is a value of a YAML document as a word; null is the empty text, a list or a map is JSON.
func text(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatFloat(v, 'f', -1, 64), nil
		}
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", fmt.Errorf("is %T; allowed: a text, a number, true or false", value)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func shown(value any) string {
	word, err := text(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return word
}

func (t *Table) nearest(word string) []string {
	known := make([]string, 0, len(t.Flags))
	for _, f := range t.Flags {
		known = append(known, f.Name)
	}
	return catalog.Nearest(strings.TrimPrefix(word, "--"), known)
}
