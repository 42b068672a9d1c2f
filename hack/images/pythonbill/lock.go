// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// python is a package of the lock, and what is known of it.
type python struct {
	name, version string
	// hashes are the SHA-256 that the lock allows: one for each file of the release.
	hashes []string
	// hash is that of the file for the image's platform; licence is an SPDX expression.
	hash, licence string
}

var (
	lockName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)`)
	lockHash = regexp.MustCompile(`--hash=sha256:([0-9a-f]{64})`)
	separate = regexp.MustCompile(`[-_.]+`)
	baseLine = regexp.MustCompile(`(?m)^(?:ARG BASE=|FROM )([^\s$]+)`)
)

// normal is a package's name as PyPI compares it
// (https://packaging.python.org/en/latest/specifications/name-normalization).
func normal(name string) string { return strings.ToLower(separate.ReplaceAllString(name, "-")) }

// readLock returns the packages in the order of their names. Each needs a hash.
func readLock(folder string) ([]*python, error) {
	file := filepath.Join(folder, "requirements.lock")
	content, err := os.ReadFile(file) //nolint:gosec // a file of the folder that the user names
	if err != nil {
		return nil, err
	}
	var lock []*python
	for _, line := range strings.Split(string(content), "\n") {
		if match := lockName.FindStringSubmatch(line); match != nil {
			lock = append(lock, &python{name: normal(match[1]), version: match[2]})
		}
		if match := lockHash.FindStringSubmatch(line); match != nil && len(lock) > 0 {
			last := lock[len(lock)-1]
			last.hashes = append(last.hashes, match[1])
		}
	}
	for _, p := range lock {
		if len(p.hashes) == 0 {
			return nil, fmt.Errorf("%s: %s has no hash: make the lock by ./lock", file, p.name)
		}
	}
	if len(lock) == 0 {
		return nil, fmt.Errorf("%s has no package", file)
	}
	slices.SortFunc(lock, func(a, b *python) int { return strings.Compare(a.name, b.name) })
	return lock, nil
}

// readBase returns the image that the Dockerfile starts from.
func readBase(folder string) (string, error) {
	file := filepath.Join(folder, "Dockerfile")
	content, err := os.ReadFile(file) //nolint:gosec // a file of the folder that the user names
	if err != nil {
		return "", err
	}
	match := baseLine.FindSubmatch(content)
	if match == nil {
		return "", fmt.Errorf("%s names no base image: neither ARG BASE= nor FROM", file)
	}
	return string(match[1]), nil
}
