// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
)

// exception allows words in the lines of some files that match a pattern.
type exception struct {
	files   string // a path, a path.Match pattern, or a folder that ends in /
	pattern *regexp.Regexp
	line    int
	used    bool
}

// readExceptions reads a file of lines `path pattern # reason`. Patterns have no spaces: \s matches one.
func readExceptions(name string) ([]*exception, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the exceptions: %w", err)
	}
	var exceptions []*exception
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rule, reason, _ := strings.Cut(line, " # ")
		fields := strings.Fields(rule)
		if len(fields) != 2 || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: the form is: path pattern # reason", name, i+1)
		}
		pattern, err := regexp.Compile(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		exceptions = append(exceptions, &exception{files: fields[0], pattern: pattern, line: i + 1})
	}
	return exceptions, nil
}

func (e *exception) allows(file, line string) bool {
	inFolder := strings.HasSuffix(e.files, "/") && strings.HasPrefix(file, e.files)
	if matched, err := path.Match(e.files, file); (err != nil || !matched) && !inFolder {
		return false
	}
	if !e.pattern.MatchString(line) {
		return false
	}
	e.used = true
	return true
}
