// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"kaito.sh/hack/images/spdx"
)

// bill writes the software bill of materials: the Go that compiled the programs and every module in them, as they
// themselves tell.
func (f *factory) bill(s source, binaries []string) error {
	document := spdx.New(s.name, "hack/images", spdx.NewPackage("SPDXRef-image", s.name, f.tag, ""))
	hash, seen := sha256.New(), map[string]bool{}
	add := func(path, version, locator string) {
		if seen[path] {
			return
		}
		seen[path] = true
		document.Add(spdx.NewPackage(fmt.Sprintf("SPDXRef-module-%d", len(seen)), path, version, locator))
	}
	for _, binary := range binaries {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return fmt.Errorf("reading the modules in a binary: %w", err)
		}
		content, err := os.ReadFile(binary) //nolint:gosec // was just built
		if err != nil {
			return fmt.Errorf("reading a binary: %w", err)
		}
		_, _ = hash.Write(content) // a hash takes everything
		release := strings.TrimPrefix(info.GoVersion, "go")
		add("stdlib", release, "pkg:golang/stdlib@"+release)
		for _, module := range info.Deps {
			if module.Replace != nil {
				module = module.Replace
			}
			locator := ""
			if !strings.HasPrefix(module.Path, ".") {
				locator = "pkg:golang/" + module.Path + "@" + module.Version
			}
			add(module.Path, module.Version, locator)
		}
	}
	// Unique, as the format demands, and yet the same for the same programs.
	document.Namespace = fmt.Sprintf("https://kaito.sh/spdx/%s-%x", s.name, hash.Sum(nil))
	text, err := document.Text()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("writing the bill of materials: %w", err)
	}
	return os.WriteFile(filepath.Join(f.out, s.name+".spdx.json"), text, 0o644) //nolint:gosec // meant to be read by all
}
