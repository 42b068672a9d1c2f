// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"go/scanner"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// code is the byte that takes the place of what is not prose. No pattern matches it.
const code = 0

// prose returns the part of a file that people read, at the offsets that it has in the file: each byte of code is 0,
// and comment marks and line breaks inside of a text are spaces. It returns nil for a kind of file that it does not
// know.
func prose(name string, source []byte) []byte {
	switch base := path.Base(name); {
	case strings.HasSuffix(name, ".go"):
		return goProse(source)
	case strings.HasSuffix(name, ".md"):
		return markdownProse(source)
	case hasSuffix(name, ".yaml", ".yml", ".tmpl"), base == "PROJECT":
		return flat(templateElse.ReplaceAllFunc(source, blank))
	case strings.HasSuffix(name, ".py"):
		return pythonProse(source)
	case hasSuffix(name, ".txt", ".golden", ".json"):
		return flat(source)
	case hasSuffix(name, ".mk"), base == "Makefile", base == "Dockerfile":
		return scriptProse(source)
	case bytes.HasPrefix(source, []byte("#!")):
		return scriptProse(source)
	}
	return nil
}

var (
	templateElse = regexp.MustCompile(`\{\{-?\s*else\b`)
	// scriptElse is the keyword of the shell and of awk: at the start of a line or command, or before a brace. Make
	// has the keyword at the start of a line as well.
	scriptElse = regexp.MustCompile(`(?m)^\s*else\b|[;})]\s*else\b|\belse\s*\{`)
	lineBreak  = regexp.MustCompile(`\n[ \t]*(?:#+|//)?`)
	paragraph  = regexp.MustCompile(`\n[ \t#/]*\n`)
	escape     = regexp.MustCompile(`\\[nrt"]`)
)

func hasSuffix(name string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

// flat makes one line of a text, except that a match does not reach beyond a paragraph.
func flat(text []byte) []byte {
	text = paragraph.ReplaceAllFunc(text, blank)
	return lineBreak.ReplaceAllFunc(text, spaces)
}

func blank(b []byte) []byte  { return bytes.Repeat([]byte{code}, len(b)) }
func spaces(b []byte) []byte { return bytes.Repeat([]byte{' '}, len(b)) }

// goProse keeps comments and string literals. Comments on consecutive lines are one text, and so are literals that
// are added.
func goProse(source []byte) []byte {
	out := blank(source)
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, source, func(token.Position, string) {}, scanner.ScanComments)
	end, last := 0, token.ILLEGAL // where the text before ends, and what it is
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return out
		}
		start := file.Offset(pos)
		switch {
		case tok == token.SEMICOLON && literal == "\n", tok == token.ADD && last == token.STRING:
			continue
		case tok != token.COMMENT && tok != token.STRING:
			last = tok
			continue
		}
		if between := source[end:start]; last == tok && bytes.Count(between, []byte("\n")) <= 1 {
			copy(out[end:start], spaces(between))
		}
		// The literal itself has no carriage returns, so that it can be shorter than the source.
		text := source[start : start+len(literal)]
		if tok == token.COMMENT {
			text = flat(append([]byte(nil), text...))
			copy(text, "  ")
		} else if text[0] == '"' {
			text = escape.ReplaceAllFunc(text, spaces)
			text[0], text[len(text)-1] = ' ', ' '
		} else {
			text = flat(text)
		}
		copy(out[start:], text)
		end, last = start+len(literal), tok
	}
}

// markdownProse keeps everything but the keywords in code blocks.
func markdownProse(source []byte) []byte {
	blocks := bytes.Split(source, []byte("```"))
	for i := 1; i < len(blocks); i += 2 {
		blocks[i] = scriptElse.ReplaceAllFunc(blocks[i], blank)
	}
	return flat(bytes.Join(blocks, []byte("```")))
}

// scriptProse keeps everything but the keyword: comments, messages and usage texts are everywhere in a script.
func scriptProse(source []byte) []byte { return flat(scriptElse.ReplaceAllFunc(source, blank)) }

var pythonText = regexp.MustCompile(`(?s)""".*?"""|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(?:#[^\n]*\n[ \t]*)*#[^\n]*`)

// pythonProse keeps comments and string literals.
func pythonProse(source []byte) []byte {
	out := blank(source)
	for _, at := range pythonText.FindAllIndex(source, -1) {
		copy(out[at[0]:at[1]], escape.ReplaceAllFunc(flat(source[at[0]:at[1]]), spaces))
	}
	return out
}
