// SPDX-License-Identifier: Apache-2.0

// Command language finds the words in comments, messages and documents that plain English does without.
//
// It reads the names of files, relative to the root, from its standard input. It exits with 1 if it finds any, or if
// an exception is not needed any more.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// finding is a word in a line of a file.
type finding struct {
	file string
	line int
	text string // the line, trimmed
	word *word
}

func main() {
	root := flag.String("root", ".", "folder that the files' names are relative to")
	allow := flag.String("allow", "", "file of exceptions, one a line: path pattern # reason")
	count := flag.Bool("count", false, "print only how often each word occurs in each folder")
	flag.Parse()
	found, err := run(os.Stdin, os.Stdout, *root, *allow, *count)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "language:", err)
		os.Exit(2)
	}
	if found {
		os.Exit(1)
	}
}

// run prints the findings and reports whether there are any.
func run(names io.Reader, out io.Writer, root, allow string, count bool) (bool, error) {
	var exceptions []*exception
	if allow != "" {
		var err error
		if exceptions, err = readExceptions(allow); err != nil {
			return false, err
		}
	}
	var findings []finding
	lines := bufio.NewScanner(names)
	for lines.Scan() {
		source, err := os.ReadFile(filepath.Join(root, lines.Text()))
		if os.IsNotExist(err) {
			continue // git lists it until its removal is committed
		} else if err != nil {
			return false, fmt.Errorf("reading a listed file: %w", err)
		}
		findings = append(findings, find(lines.Text(), source, exceptions)...)
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("reading the list of files: %w", err)
	}
	if count {
		return len(findings) > 0, printCounts(out, findings)
	}
	printFindings(out, findings)
	unused := false
	for _, e := range exceptions {
		if !e.used {
			unused = true
			_, _ = fmt.Fprintf(out, "%s:%d: no line needs this exception: delete it\n", allow, e.line)
		}
	}
	return len(findings) > 0 || unused, nil
}

// find returns the words in the prose of a file, except for the allowed ones.
func find(name string, source []byte, exceptions []*exception) []finding {
	text := prose(name, source)
	if text == nil {
		return nil
	}
	text = correct.ReplaceAllFunc(text, blank)
	var findings []finding
	for i := range words {
		for _, at := range words[i].pattern.FindAllIndex(text, -1) {
			start := bytes.LastIndexByte(source[:at[0]], '\n') + 1
			line, _, _ := bytes.Cut(source[start:], []byte("\n"))
			f := finding{file: name, line: bytes.Count(source[:start], []byte("\n")) + 1, word: &words[i]}
			f.text = strings.TrimSpace(string(line))
			if !allowed(f, exceptions) {
				findings = append(findings, f)
			}
		}
	}
	return findings
}

func allowed(f finding, exceptions []*exception) bool {
	for _, e := range exceptions {
		if e.allows(f.file, f.text) {
			return true
		}
	}
	return false
}

// printFindings prints each finding, then what to write instead of each word that was found.
func printFindings(out io.Writer, findings []finding) {
	seen := map[*word]bool{}
	for _, f := range findings {
		seen[f.word] = true
		_, _ = fmt.Fprintf(out, "%s:%d: %s: %s\n", f.file, f.line, f.word.name, f.text)
	}
	for i := range words {
		if w := &words[i]; seen[w] {
			_, _ = fmt.Fprintf(out, "instead of %q write %s\n", w.name, w.instead)
		}
	}
}

// printCounts prints a table: a row for each word, a column for each top folder.
func printCounts(out io.Writer, findings []finding) error {
	var folders []string
	counts := map[string]map[string]int{}
	for _, f := range findings {
		folder, _, below := strings.Cut(f.file, "/")
		if !below {
			folder = "(root)"
		}
		if counts[folder] == nil {
			counts[folder] = map[string]int{}
			folders = append(folders, folder)
		}
		counts[folder][f.word.name]++
		counts[folder]["total"]++
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string) {
		total := 0
		_, _ = fmt.Fprintf(table, "%s\t", name)
		for _, folder := range folders {
			total += counts[folder][name]
			_, _ = fmt.Fprintf(table, "%d\t", counts[folder][name])
		}
		_, _ = fmt.Fprintf(table, "%d\t\n", total)
	}
	_, _ = fmt.Fprintf(table, "word\t%s\ttotal\t\n", strings.Join(folders, "\t"))
	for _, w := range words {
		row(w.name)
	}
	row("total")
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the counts: %w", err)
	}
	return nil
}
