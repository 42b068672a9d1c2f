// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
)

// constant is a condition or a reason of a kind, with its comment.
type constant struct{ name, value, comment string }

// readConstants reads the string constants of a package whose names begin with Condition or Reason, in the order of the
// files.
func readConstants(folder string) ([]constant, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no Go files in %s: %w", folder, err)
	}
	var out []constant
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("reading the constants: %w", err)
		}
		for _, declaration := range parsed.Decls {
			if group, ok := declaration.(*ast.GenDecl); ok && group.Tok == token.CONST {
				out = append(out, constantsOf(group)...)
			}
		}
	}
	return out, nil
}

func constantsOf(group *ast.GenDecl) []constant {
	var out []constant
	for _, spec := range group.Specs {
		value, ok := spec.(*ast.ValueSpec)
		if !ok || len(value.Names) != 1 || len(value.Values) != 1 {
			continue
		}
		name := value.Names[0].Name
		literal, ok := value.Values[0].(*ast.BasicLit)
		if !ok || (!strings.HasPrefix(name, "Condition") && !strings.HasPrefix(name, "Reason")) {
			continue
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			continue // a number
		}
		out = append(out, constant{name, text, said(name, value.Doc.Text())})
	}
	return out
}

// said is a comment without the name that Go's comments begin with.
func said(name, comment string) string {
	comment = strings.TrimPrefix(strings.Join(strings.Fields(comment), " "), name)
	comment = strings.TrimPrefix(strings.TrimPrefix(comment, ":"), " is ")
	return strings.TrimSpace(comment)
}
