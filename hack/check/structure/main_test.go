// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name, file, text, allow, want string
	}{
		{"a short file", "a.go", "package a\n", "", ""},
		{"a long file", "a.go", "package a\n" + strings.Repeat("\n", 300), "", "a.go: 301 lines"},
		{"an excused file", "a.go", "package a\n" + strings.Repeat("\n", 300), "a.go # one table", ""},
		{"a long function", "a.go", "package a\nfunc f() {\n" + strings.Repeat("\n", 60) + "}\n", "", "function f has 62 lines"},
		{"a test file", "a_test.go", "package a\n" + strings.Repeat("\n", 300), "", ""},
		{
			"an import upwards", "workspace-operator/internal/plan/a.go",
			"package plan\nimport _ \"kaito.sh/workspace-operator/internal/placement\"\n", "", "on the same layer or above",
		},
		{
			"an import downwards", "workspace-operator/internal/placement/a.go",
			"package placement\nimport _ \"kaito.sh/workspace-operator/internal/plan\"\n", "", "",
		},
		{"an exception that is not needed", "a.go", "package a\n", "a.go # one table", "not needed any more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, test.file)), 0o755); err != nil {
				t.Fatal(err)
			}
			allow := filepath.Join(root, "allow")
			for name, text := range map[string]string{filepath.Join(root, test.file): test.text, allow: test.allow} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := run(root, allow, strings.NewReader(test.file+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got, "\n"); (test.want == "") != (text == "") || !strings.Contains(text, test.want) {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}
