// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// What Python's int() and float() read, and vLLM's human_readable_int.
var (
	integer  = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)
	floating = regexp.MustCompile(
		`(?i)^[+-]?(([0-9]+(_[0-9]+)*\.?([0-9]+(_[0-9]+)*)?|\.[0-9]+(_[0-9]+)*)(e[+-]?[0-9]+(_[0-9]+)*)?|inf(inity)?|nan)$`,
	)
	decimals = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?[kmgt]$`)
	binaries = regexp.MustCompile(`^[0-9]+[KMGT]$`)
	braces   = regexp.MustCompile(`(?s)^\s*\{.*\}\s*$`)
	// suffixed are numbers with a unit, which the engine expands outside of texts in JSON.
	suffixed = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\b[0-9]+(?:\.[0-9]+)?[kKmMgGtT]\b`)
)

// kinds describe what is allowed, for errors.
var kinds = map[Kind]string{
	KindInt:          "a whole number",
	KindFloat:        "a number",
	KindTokens:       "a whole number, such as 8192, 8k (8000) or 8K (8192)",
	KindTokensOrAuto: "a whole number of tokens, such as 8192, 8k (8000) or 8K (8192), or auto",
	KindJSON:         "JSON",
	KindJSONOrText:   "a text, or a JSON object",
	KindObject:       "a map",
	KindLora:         "NAME=PATH, or JSON with name and path",
}

// check returns a *ValueError where the engine's parser refuses a value of a flag.
func (f Flag) check(value string) error {
	if f.Optional && (value == "" || value == "None") {
		return nil
	}
	if !f.valid(value) {
		return f.wrong(value, kinds[f.Kind])
	}
	if len(f.Choices) > 0 && !slices.Contains(f.Choices, f.canonical(value)) {
		return f.wrong(value, strings.Join(f.Choices, ", "))
	}
	if f.Kind == KindObject {
		return f.matches(value)
	}
	return nil
}

func (f Flag) wrong(value, allowed string) error {
	return &ValueError{Flag: f.Name, Value: value, Allowed: allowed}
}

func (f Flag) valid(value string) bool {
	trimmed := strings.TrimSpace(value)
	switch f.Kind {
	case KindInt:
		return integer.MatchString(trimmed)
	case KindFloat:
		return floating.MatchString(trimmed)
	case KindTokens:
		return tokens(trimmed)
	case KindTokensOrAuto:
		return tokens(trimmed) || strings.EqualFold(trimmed, "auto")
	case KindJSON, KindObject:
		return json.Valid([]byte(expand(value)))
	case KindJSONOrText:
		return !braces.MatchString(value) || json.Valid([]byte(value))
	case KindLora:
		_, _, ok := f.LoraModule(value)
		return ok
	case KindText, KindFolded, KindSwitch, KindOnlyOn:
	}
	return true
}

func tokens(text string) bool {
	return integer.MatchString(text) || decimals.MatchString(text) || binaries.MatchString(text)
}

// canonical is a value in the form that the choices have.
func (f Flag) canonical(value string) string {
	switch f.Kind {
	case KindFolded:
		return strings.ReplaceAll(strings.ToLower(value), "-", "_")
	case KindInt:
		if n, err := strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(value), "_", "")); err == nil {
			return strconv.Itoa(n)
		}
	default:
	}
	return value
}

// matches validates the value of KindObject.
func (f Flag) matches(value string) error {
	schema, err := f.schema()
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(expand(value)))
	if err != nil {
		return f.wrong(value, kinds[f.Kind])
	}
	var invalid *jsonschema.ValidationError
	if err := schema.Validate(document); errors.As(err, &invalid) {
		return f.wrong(value, "what matches its schema ("+why(invalid)+")")
	}
	return err
}

// why is the first cause of an error: the path of the field, and what is wrong with it.
func why(e *jsonschema.ValidationError) string {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	text := e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	if len(e.InstanceLocation) == 0 {
		return text
	}
	return strings.Join(e.InstanceLocation, ".") + ": " + text
}

// expand writes numbers with a unit out, as the engine does outside of texts.
func expand(text string) string {
	return suffixed.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasPrefix(match, `"`) {
			return match
		}
		n, ok := Tokens(match)
		if !ok {
			return match
		}
		return strconv.FormatInt(n, 10)
	})
}

// units of the engine's numbers: small letters count in thousands.
var units = map[byte]float64{
	'k': 1e3, 'm': 1e6, 'g': 1e9, 't': 1e12, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40,
}

// Tokens reads a number as KindTokens has it. It returns false for a text that the engine refuses, and for a number
// that is too large to count.
func Tokens(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	if !tokens(text) {
		return 0, false
	}
	text = strings.ReplaceAll(text, "_", "")
	factor, hasUnit := units[text[len(text)-1]]
	if !hasUnit {
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	}
	n, err := strconv.ParseFloat(text[:len(text)-1], 64)
	if n *= factor; err != nil || n >= 1<<62 {
		return 0, false
	}
	return int64(n), true // the engine cuts a fraction off, too
}

// LoraModule reads a value of --lora-modules; ok is false where the engine refuses it.
func (f Flag) LoraModule(value string) (name, path string, ok bool) {
	if strings.Contains(value, "=") && !strings.Contains(value, ",") {
		name, path, _ = strings.Cut(value, "=")
		return name, path, true
	}
	var module map[string]any
	if json.Unmarshal([]byte(value), &module) != nil {
		return "", "", false
	}
	for key := range module {
		if !slices.Contains(f.Fields, key) {
			return "", "", false
		}
	}
	name, named := module["name"].(string)
	path, placed := module["path"].(string)
	return name, path, named && placed
}
