// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// document is a page of Markdown with its code blocks.
type document struct {
	// path is below the repository's root.
	path   string
	blocks []block
}

// block is a code block, fenced or indented by four spaces.
type block struct {
	// line is where the text begins, from 1.
	line int
	text string
	// language is the first word after the fence. Of an indented block it is what its text looks like.
	language string
	// unrun is why the page itself says that the block is not to be run: ```sh no-run: the reason.
	unrun string
}

// problem is what is wrong with a page, and where.
type problem struct {
	path string
	line int
	text string
}

func (p problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.path, p.line, p.text) }

// unread are folders whose pages are not the repository's own.
var unread = []string{".git", ".cache", "bin", "dist", "node_modules"}

// documents reads every page of the repository.
func documents(root string) ([]document, error) {
	var out []document
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains(unread, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		d, err := parse(below, source)
		out = append(out, d)
		return err
	})
	return out, err
}

// parse finds the code blocks as CommonMark has them: a line of a list that is indented is none.
func parse(path string, source []byte) (document, error) {
	d := document{path: path}
	root := goldmark.DefaultParser().Parse(text.NewReader(source))
	err := ast.Walk(root, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var info string
		switch n := node.(type) {
		case *ast.FencedCodeBlock:
			if n.Info != nil {
				info = strings.TrimSpace(string(n.Info.Value(source)))
			}
		case *ast.CodeBlock:
			info = looksLike(string(n.Lines().Value(source)))
		default:
			return ast.WalkContinue, nil
		}
		lines := node.Lines()
		if lines.Len() == 0 {
			return ast.WalkContinue, nil
		}
		language, rest, _ := strings.Cut(info, " ")
		b := block{
			text:     string(lines.Value(source)),
			language: language,
			line:     1 + bytes.Count(source[:lines.At(0).Start], []byte("\n")),
		}
		if reason, ok := strings.CutPrefix(rest, "no-run:"); ok {
			b.unrun = strings.TrimSpace(reason)
		}
		d.blocks = append(d.blocks, b)
		return ast.WalkContinue, nil
	})
	return d, err
}

// looksLike tells a manifest from commands, where no fence says it: it begins as one, comments apart.
func looksLike(text string) string {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") && line != "---\n" {
			if strings.HasPrefix(line, "apiVersion:") {
				return "yaml"
			}
			break
		}
	}
	return "sh"
}
