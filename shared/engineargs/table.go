// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"kaito.sh/shared/catalog"
)

//go:embed data/*.json
var files embed.FS

// Table has the flags of one release. It is read only.
type Table struct {
	Version string
	Flags   []Flag
	// Templates are the chat templates in the folder of examples of the release's image.
	Templates []string

	// options maps each word that the parser takes for a flag, with its dashes, to the flag.
	options map[string]option
}

// Flag is a flag as the engine's parser has it.
type Flag struct {
	// Name without dashes.
	Name string
	// Aliases are other spellings, with their dashes.
	Aliases []string
	Kind    Kind
	// Values says how many values follow: 1, ? (none or one), + (one or more) or * (any number). A switch has none.
	Values string
	// Optional: the empty text and None are values, too, for the engine's own default.
	Optional bool
	// Choices are the only values that the parser accepts. Empty: all of the kind.
	Choices []string
	// Registered are the names that the engine accepts when it starts, unless a plugin registers more. Empty: all.
	Registered []string
	// Fields that the JSON form of KindLora may have.
	Fields []string
	// Schema of the value of KindObject, as JSON.
	Schema json.RawMessage

	schema func() (*jsonschema.Schema, error)
}

// Kind is what the values of a flag must be.
type Kind string

// The kinds.
const (
	KindInt   Kind = "int"
	KindFloat Kind = "float"
	KindText  Kind = "text"
	// KindTokens is a whole number that may end in k, K, m, M, g, G, t or T; the capital letters are powers of 1024.
	KindTokens Kind = "tokens"
	// KindTokensOrAuto is a KindTokens, auto or -1.
	KindTokensOrAuto Kind = "tokensOrAuto"
	KindJSON         Kind = "json"
	// KindJSONOrText is any text; one in braces must be JSON.
	KindJSONOrText Kind = "jsonOrText"
	// KindObject is JSON that matches Flag.Schema.
	KindObject Kind = "object"
	// KindSwitch is --name or --no-name. KindOnlyOn has no opposite form.
	KindSwitch Kind = "switch"
	KindOnlyOn Kind = "onlyOn"
	// KindLora is name=path, or JSON with name and path.
	KindLora Kind = "lora"
	// KindFolded is text in small letters, in which _ is as good as -.
	KindFolded Kind = "folded"
)

// Switch says whether the flag has no value.
func (f Flag) Switch() bool { return f.Kind == KindSwitch || f.Kind == KindOnlyOn }

// Several says whether more than one value may follow the flag.
func (f Flag) Several() bool { return f.Values == "+" || f.Values == "*" || f.Kind == KindLora }

// option is a word that stands for a flag.
type option struct {
	flag Flag
	// off: the word is the switch's opposite form.
	off bool
}

var tables = sync.OnceValues(load)

// For returns the table of a release, or an error if the repository has none.
func For(version string) (*Table, error) {
	all, err := tables()
	if err != nil {
		return nil, err
	}
	if t, ok := all[version]; ok {
		return t, nil
	}
	return nil, fmt.Errorf(
		"engine %s has no table of flags: add it to hack/catalogue/releases and run `make catalogue`", version,
	)
}

// Closest returns the table of a release, of the last one before it, or of the first: an administrator's catalogue may
// name releases that the repository has no table of.
func Closest(version string) (*Table, error) {
	all, err := tables()
	if err != nil {
		return nil, err
	}
	versions := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if (catalog.Engine{Version: a}).AtLeast(b) {
			return 1
		}
		return -1
	})
	best := versions[0]
	for _, v := range versions {
		if (catalog.Engine{Version: version}).AtLeast(v) {
			best = v
		}
	}
	return all[best], nil
}

func load() (map[string]*Table, error) {
	entries, err := files.ReadDir("data")
	if err != nil {
		return nil, fmt.Errorf("listing the tables of flags: %w", err)
	}
	all := map[string]*Table{}
	for _, entry := range entries {
		text, err := files.ReadFile("data/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("reading a table of flags: %w", err)
		}
		t := &Table{}
		if err := json.Unmarshal(text, t); err != nil {
			return nil, fmt.Errorf("data/%s: %w", entry.Name(), err)
		}
		t.index()
		all[t.Version] = t
	}
	return all, nil
}

func (t *Table) index() {
	t.options = map[string]option{}
	for i := range t.Flags {
		f := &t.Flags[i]
		f.schema = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile(f.Name, f.Schema) })
		for _, word := range append([]string{"--" + f.Name}, f.Aliases...) {
			t.options[word] = option{flag: *f}
			if long, isLong := strings.CutPrefix(word, "--"); isLong && f.Kind == KindSwitch {
				t.options["--no-"+long] = option{flag: *f, off: true}
			}
		}
	}
}

func compile(name string, schema json.RawMessage) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(schema)))
	if err != nil {
		return nil, fmt.Errorf("the schema of %s: %w", name, err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		return nil, fmt.Errorf("the schema of %s: %w", name, err)
	}
	return compiler.Compile(name)
}

// Flag returns the flag of a name, without dashes.
func (t *Table) Flag(name string) (Flag, bool) {
	o, ok := t.options["--"+name]
	return o.flag, ok && !o.off
}

// find returns the flag that a word with dashes stands for: the word itself or, as in Python's argparse, the beginning
// of exactly one.
func (t *Table) find(word string) (option, error) {
	if o, ok := t.options[word]; ok {
		return o, nil
	}
	var longer []string
	if strings.HasPrefix(word, "--") && len(word) > len("--") {
		for candidate := range t.options {
			if strings.HasPrefix(candidate, word) {
				longer = append(longer, candidate)
			}
		}
	}
	slices.Sort(longer)
	switch len(longer) {
	case 0:
		return option{}, &UnknownFlagError{Word: word, Version: t.Version, Suggestions: t.nearest(word)}
	case 1:
		return t.options[longer[0]], nil
	}
	return option{}, &AmbiguousFlagError{Word: word, Matches: longer}
}
