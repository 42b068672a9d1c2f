// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	maxFileLines     = 300
	maxFunctionLines = 60
)

func main() {
	root := flag.String("root", ".", "folder that the files' names are relative to")
	allow := flag.String("allow", "", "file of exceptions, one a line: PATH # REASON, or PATH:FUNCTION # REASON")
	flag.Parse()
	findings, err := run(*root, *allow, os.Stdin)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "structure:", err)
		os.Exit(2)
	}
	for _, f := range findings {
		fmt.Println(f)
	}
	if len(findings) > 0 {
		os.Exit(1)
	}
}

func run(root, allow string, names io.Reader) ([]string, error) {
	allowed, err := readAllowed(allow)
	if err != nil {
		return nil, err
	}
	var out []string
	scanner := bufio.NewScanner(names)
	for scanner.Scan() {
		name := scanner.Text()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "zz_generated") {
			continue
		}
		found, err := check(root, name, allowed)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	for entry, used := range allowed {
		if !used {
			out = append(out, fmt.Sprintf("hack/verify/structure.allow: %s is not needed any more: remove the line", entry))
		}
	}
	return out, scanner.Err()
}

// readAllowed returns the exceptions, each with whether it was used.
func readAllowed(file string) (map[string]bool, error) {
	out := map[string]bool{}
	if file == "" {
		return out, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for number, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		entry, reason, _ := strings.Cut(line, "#")
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: %q has no reason: want PATH # REASON", file, number+1, line)
		}
		out[strings.TrimSpace(entry)] = false
	}
	return out, nil
}

func check(root, name string, allowed map[string]bool) ([]string, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, filepath.Join(root, name), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []string
	excused := func(entry string) bool {
		_, ok := allowed[entry]
		if ok {
			allowed[entry] = true
		}
		return ok
	}
	if lines := files.File(parsed.Pos()).LineCount(); lines > maxFileLines && !excused(name) {
		out = append(out, fmt.Sprintf(
			"%s: %d lines, at most %d are allowed: split it by topic, or add it to hack/verify/structure.allow with a reason",
			name, lines, maxFileLines))
	}
	for _, declaration := range parsed.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		lines := files.Position(f.End()).Line - files.Position(f.Pos()).Line + 1
		if lines > maxFunctionLines && !excused(name+":"+f.Name.Name) {
			out = append(out, fmt.Sprintf("%s: function %s has %d lines, at most %d are allowed",
				name, f.Name.Name, lines, maxFunctionLines))
		}
	}
	for _, spec := range parsed.Imports {
		if imported := strings.Trim(spec.Path.Value, `"`); upward(path.Dir(name), imported) {
			out = append(out, fmt.Sprintf("%s imports %s, which is on the same layer or above: see layers in hack/check/structure",
				name, imported))
		}
	}
	return out, nil
}
