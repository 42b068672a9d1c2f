// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// reference is an image that a line of a file names.
type reference struct {
	// file is relative to the repository's root; line counts from 1.
	file string
	line int
	// tagged is the image with its tag as the file spells it; digest is "sha256:…", or empty.
	tagged, digest string
}

// text is the reference as the file has it.
func (r reference) text() string {
	if r.digest == "" {
		return r.tagged
	}
	return r.tagged + "@" + r.digest
}

// skipped are the folders that hold no source.
var skipped = []string{".git", "bin", "dist", ".cache", "node_modules"}

// find returns the images of every Dockerfile below root and of the catalogue, by file and line.
func find(root string) ([]reference, error) {
	var all []reference
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != root && slices.Contains(skipped, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		scan := scanner(filepath.ToSlash(relative))
		if scan == nil {
			return nil
		}
		content, err := os.ReadFile(path) //nolint:gosec // a file below the root that the user named
		if err != nil {
			return err
		}
		for _, r := range scan(strings.Split(string(content), "\n")) {
			r.file = filepath.ToSlash(relative)
			all = append(all, r)
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("--root is %q, which has no Dockerfile and no catalogue that names an image", root)
	}
	return all, err
}

// scanner returns what reads the images from a file's lines, or nil for a file that names none.
func scanner(file string) func([]string) []reference {
	switch name := filepath.Base(file); {
	case name == "Dockerfile" || strings.HasPrefix(name, "Dockerfile."):
		return dockerfile
	case filepath.Dir(file) == "shared/catalog/data" && strings.HasSuffix(name, ".yaml"):
		return catalogue
	}
	return nil
}

var (
	fromLine  = regexp.MustCompile(`(?i)^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?`)
	argLine   = regexp.MustCompile(`(?i)^\s*ARG\s+(\w+)=["']?([^\s"']+)`)
	argUse    = regexp.MustCompile(`^\$\{?(\w+)\}?$`)
	imageLine = regexp.MustCompile(`^\s*(?:-\s+)?image:\s*["']?([^\s"'#]+)`)
)

// dockerfile returns the images of FROM lines, also from the default of an ARG, without the names of stages.
func dockerfile(lines []string) []reference {
	var all []reference
	stages, arguments := map[string]bool{"scratch": true}, map[string]reference{}
	for i, line := range lines {
		if match := argLine.FindStringSubmatch(line); match != nil {
			arguments[match[1]] = parse(i+1, match[2])
		}
		match := fromLine.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		image, stage := match[1], strings.ToLower(match[2])
		if use := argUse.FindStringSubmatch(image); use != nil {
			if r, known := arguments[use[1]]; known && !slices.Contains(all, r) {
				all = append(all, r)
			}
		} else if !stages[strings.ToLower(image)] {
			all = append(all, parse(i+1, image))
		}
		if stage != "" {
			stages[stage] = true
		}
	}
	return all
}

// catalogue returns the images of `image:` lines.
func catalogue(lines []string) []reference {
	var all []reference
	for i, line := range lines {
		if match := imageLine.FindStringSubmatch(line); match != nil {
			all = append(all, parse(i+1, match[1]))
		}
	}
	return all
}

func parse(line int, text string) reference {
	tagged, digest, _ := strings.Cut(text, "@")
	return reference{line: line, tagged: tagged, digest: digest}
}
