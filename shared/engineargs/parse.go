// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Arguments are a parsed command line.
type Arguments struct {
	// Model is the positional argument.
	Model string
	// Values of each flag that was given, by its name without dashes. A switch has "true" or "false". Of a flag that was
	// given twice the last counts.
	Values map[string][]string
}

// Parse reads the arguments of `vllm serve` as its parser does. The errors have argparse's words.
func (t *Table) Parse(args []string) (Arguments, error) {
	out := Arguments{Values: map[string][]string{}}
	args, err := t.join(args)
	if err != nil {
		return Arguments{}, err
	}
	positional := false
	for len(args) > 0 {
		if !strings.HasPrefix(args[0], "-") || negative(args[0]) {
			if positional {
				return Arguments{}, fmt.Errorf("unrecognized arguments: %s", args[0])
			}
			out.Model, positional, args = args[0], true, args[1:]
			continue
		}
		if args, err = t.take(&out, args); err != nil {
			return Arguments{}, err
		}
	}
	return out, nil
}

// take reads a flag and its values off args, and returns the rest.
func (t *Table) take(out *Arguments, args []string) ([]string, error) {
	word, value, joined := strings.Cut(args[0], "=")
	found, err := t.find(dashed(word))
	if err != nil {
		return nil, fmt.Errorf("unrecognized arguments: %s (%w)", word, err)
	}
	f, rest := found.flag, args[1:]
	if f.Switch() {
		if joined {
			return nil, fmt.Errorf("argument --%s: ignored explicit argument %q", f.Name, value)
		}
		out.Values[f.Name] = []string{fmt.Sprint(!found.off)}
		return rest, nil
	}
	values := []string{value}
	if !joined {
		if values, rest, err = f.values(rest); err != nil {
			return nil, err
		}
	}
	for _, value := range values {
		if err := f.check(value); err != nil {
			return nil, fmt.Errorf("argument --%s: invalid value: %w", f.Name, err)
		}
	}
	out.Values[f.Name] = values
	return rest, nil
}

// values takes as many words off args as the flag has values.
func (f Flag) values(args []string) (values, rest []string, err error) {
	n := 0
	for n < len(args) && (!strings.HasPrefix(args[n], "-") || args[n] == "-" || negative(args[n])) {
		n++
	}
	switch {
	case f.Values == "1" && n == 0:
		return nil, nil, fmt.Errorf("argument --%s: expected one argument", f.Name)
	case f.Values == "+" && n == 0:
		return nil, nil, fmt.Errorf("argument --%s: expected at least one argument", f.Name)
	case f.Values == "1" || f.Values == "?":
		n = min(n, 1)
	}
	return slices.Clone(args[:n]), args[n:], nil
}

// join puts the parts of an object, --name.path value, into one --name with JSON at the end, as the engine does.
func (t *Table) join(args []string) ([]string, error) {
	parts := map[string]map[string]any{}
	var names, out []string
	for i := 0; i < len(args); i++ {
		word, value, joined := strings.Cut(args[i], "=")
		name, path, dotted := strings.Cut(word, ".")
		if !strings.HasPrefix(word, "-") || negative(word) || !dotted {
			out = append(out, args[i])
			continue
		}
		if !joined {
			if i++; i == len(args) {
				return nil, fmt.Errorf("argument %s: expected one argument", word)
			}
			value = args[i]
		}
		name = dashed(name)
		if parts[name] == nil {
			parts[name] = map[string]any{}
			names = append(names, name)
		}
		parsed := fieldValue(value)
		if strings.HasSuffix(path, "+") {
			path, parsed = strings.TrimSuffix(path, "+"), list(value)
		}
		merge(parts[name], strings.Split(path, "."), parsed)
	}
	for _, name := range names {
		whole, err := json.Marshal(parts[name])
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", name, err)
		}
		out = append(out, name, string(whole))
	}
	return out, nil
}

func merge(into map[string]any, keys []string, value any) {
	for len(keys) > 1 {
		inner, isMap := into[keys[0]].(map[string]any)
		if !isMap {
			inner = map[string]any{}
			into[keys[0]] = inner
		}
		into, keys = inner, keys[1:]
	}
	into[keys[0]] = value
}

// dashed is a flag in the parser's spelling: an underscore is as good as a dash up to the first dot.
func dashed(word string) string {
	if !strings.HasPrefix(word, "--") {
		return word
	}
	return strings.ReplaceAll(word, "_", "-")
}

// negative says whether a word is a negative number, which argparse takes for a value.
func negative(word string) bool {
	return len(word) > 1 && word[0] == '-' && floating.MatchString(word)
}
