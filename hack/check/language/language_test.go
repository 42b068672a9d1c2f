// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		file, source string
		want         []string // line: word
	}{
		"comments and strings of Go":  {"a.go", "package a\n\n// Nobody reads it.\nvar a = \"in vain\"\n", []string{"3 nobody", "4 in vain"}},
		"keyword of Go":               {"a.go", "package a\n\nfunc f() {\n\tif true {\n\t} else {\n\t}\n}\n", nil},
		"identifiers of Go":           {"a.go", "package a\n\nvar whatever, house int\n", nil},
		"phrase across comment lines": {"a.go", "package a\n\n// The work goes\n// on.\nvar a int\n", []string{"3 goes on"}},
		"phrase across added strings": {"a.go", "package a\n\nvar a = \"this is \" +\n\t\"no rule\"\n", []string{"3 is no X"}},
		"separate strings":            {"a.go", "package a\n\nvar a = []string{\"this is\", \"no rule\"}\n", nil},
		"word after an escape":        {"a.go", "package a\n\nvar a = \"x\\nelse y\"\n", []string{"3 else"}},
		"raw string":                  {"a.go", "package a\n\nvar a = `one\nnobody`\n", []string{"4 nobody"}},
		"prose of Markdown":           {"a.md", "One line\nelse another\n", []string{"2 else"}},
		"shell in Markdown":           {"a.md", "```bash\nif x; then y\nelse z; fi\n```\n", nil},
		"separate paragraphs":         {"a.md", "The work goes\n\non.\n", nil},
		"description in YAML":         {"a.yaml", "description: whoever\n  goes on\n", []string{"1 whoever", "2 goes on"}},
		"keyword of a template":       {"a.tmpl", "{{ if .A }}a{{ else }}b{{ end }}\n", nil},
		"comments and messages of a script": {"run", "#!/bin/sh\n# else\nif a; then echo 'mend it'\nelse b; fi\nif a; then b; else c; fi\n",
			[]string{"2 else", "3 mend"}},
		"ternary of Python":        {"a.py", "a = 1 if b else 2  # else nothing\n", []string{"1 else"}},
		"there is no":              {"a.md", "There is no node. It is no longer ready.\n", nil},
		"nothing else":             {"a.md", "Nothing else, or someone else's, stands for it.\n", nil},
		"a kind that has no prose": {"go.sum", "house\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range find(c.file, []byte(c.source), nil) {
				got = append(got, strings.Join([]string{strconv.Itoa(f.line), f.word.name}, " "))
			}
			assert.ElementsMatch(t, c.want, got)
		})
	}
}

func TestRun(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
		return filepath.Join(root, name)
	}
	write("a.md", "Run it by itself.\n")
	allow := write("allow", "# a comment\na.md by\\sitself # a quoted message\n")
	stale := write("stale", "a.md by\\sitself # a quoted message\nb.md . # a file that is gone\n")
	malformed := write("malformed", "a.md by\\sitself\n")
	run := func(allow string, count bool) (bool, string, error) {
		var out bytes.Buffer
		found, err := run(strings.NewReader("a.md\ngone.md\n"), &out, root, allow, count)
		return found, out.String(), err
	}

	t.Run("prints the line and what to write", func(t *testing.T) {
		found, out, err := run("", false)
		require.NoError(t, err)
		assert.True(t, found)
		assert.Contains(t, out, "a.md:1: by itself: Run it by itself.\n")
		assert.Contains(t, out, `instead of "by itself" write`)
	})
	t.Run("counts by word and folder", func(t *testing.T) {
		_, out, err := run("", true)
		require.NoError(t, err)
		assert.Regexp(t, `by itself +1 +1\n`, out)
		assert.Regexp(t, `total +1 +1\n`, out)
	})
	t.Run("allows an exception", func(t *testing.T) {
		found, out, err := run(allow, false)
		require.NoError(t, err)
		assert.False(t, found, out)
	})
	t.Run("finds an exception that is not needed", func(t *testing.T) {
		found, out, err := run(stale, false)
		require.NoError(t, err)
		assert.True(t, found)
		assert.Contains(t, out, "stale:2: no line needs this exception")
	})
	t.Run("refuses an exception without a reason", func(t *testing.T) {
		_, _, err := run(malformed, false)
		assert.ErrorContains(t, err, "malformed:1: the form is: path pattern # reason")
	})
}
