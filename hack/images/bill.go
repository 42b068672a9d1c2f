package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// bill writes the software bill of materials (https://spdx.github.io/spdx-spec/v2.3): the Go that compiled the programs
// and every module in them, as they themselves tell.
func (f *factory) bill(s source, binaries []string) error {
	root := pkg("SPDXRef-image", s.name, f.tag, "")
	document := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: s.name,
		// The format wants a time; none is told, for the same sources must give the same file.
		Creation:  creation{Created: "1970-01-01T00:00:00Z", Creators: []string{"Tool: hack/images"}},
		Packages:  []spdxPackage{root},
		Relations: []relation{{From: "SPDXRef-DOCUMENT", Kind: "DESCRIBES", To: root.ID}},
	}
	hash, seen := sha256.New(), map[string]bool{}
	add := func(path, version, locator string) {
		if seen[path] {
			return
		}
		seen[path] = true
		id := fmt.Sprintf("SPDXRef-module-%d", len(seen))
		document.Packages = append(document.Packages, pkg(id, path, version, locator))
		document.Relations = append(document.Relations, relation{From: root.ID, Kind: "CONTAINS", To: id})
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
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the bill of materials: %w", err)
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("writing the bill of materials: %w", err)
	}
	return os.WriteFile(filepath.Join(f.out, s.name+".spdx.json"), append(text, '\n'), 0o644) //nolint:gosec // meant to be read by all
}

type document struct {
	Version   string        `json:"spdxVersion"`
	License   string        `json:"dataLicense"`
	ID        string        `json:"SPDXID"`
	Name      string        `json:"name"`
	Namespace string        `json:"documentNamespace"`
	Creation  creation      `json:"creationInfo"`
	Packages  []spdxPackage `json:"packages"`
	Relations []relation    `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID       string     `json:"SPDXID"`
	Name     string     `json:"name"`
	Version  string     `json:"versionInfo,omitempty"`
	Location string     `json:"downloadLocation"`
	Analyzed bool       `json:"filesAnalyzed"`
	Refs     []external `json:"externalRefs,omitempty"`
}

type external struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relation struct {
	From string `json:"spdxElementId"`
	Kind string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

func pkg(id, name, version, locator string) spdxPackage {
	p := spdxPackage{ID: id, Name: name, Version: version, Location: "NOASSERTION"}
	if locator != "" {
		p.Refs = []external{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: locator}}
	}
	return p
}
