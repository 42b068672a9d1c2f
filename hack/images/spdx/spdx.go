// SPDX-License-Identifier: Apache-2.0

package spdx

import (
	"encoding/json"
	"fmt"
)

// Document is a software bill of materials.
type Document struct {
	Version   string     `json:"spdxVersion"`
	License   string     `json:"dataLicense"`
	ID        string     `json:"SPDXID"`
	Name      string     `json:"name"`
	Namespace string     `json:"documentNamespace"`
	Comment   string     `json:"comment,omitempty"`
	Creation  Creation   `json:"creationInfo"`
	Packages  []Package  `json:"packages"`
	Relations []Relation `json:"relationships"`
	Licenses  []License  `json:"hasExtractedLicensingInfos,omitempty"`
}

// Creation says who wrote the document, and when.
type Creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

// Package is a part of what the document describes.
type Package struct {
	ID        string     `json:"SPDXID"`
	Name      string     `json:"name"`
	Version   string     `json:"versionInfo,omitempty"`
	Location  string     `json:"downloadLocation"`
	Analyzed  bool       `json:"filesAnalyzed"`
	Checksums []Checksum `json:"checksums,omitempty"`
	// Declared is the SPDX expression of the licence that the package declares.
	Declared string     `json:"licenseDeclared,omitempty"`
	Comment  string     `json:"comment,omitempty"`
	Refs     []External `json:"externalRefs,omitempty"`
}

// Checksum of the file that a package came in.
type Checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

// External names a package elsewhere.
type External struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

// Relation of two parts.
type Relation struct {
	From string `json:"spdxElementId"`
	Kind string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// License is one that SPDX's list does not have.
type License struct {
	ID   string `json:"licenseId"`
	Name string `json:"name"`
	Text string `json:"extractedText"`
}

// New returns a document that describes root. The format wants a time; none is given, because the same parts must make
// the same file.
func New(name, tool string, root Package) Document {
	return Document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Creation:  Creation{Created: "1970-01-01T00:00:00Z", Creators: []string{"Tool: " + tool}},
		Packages:  []Package{root},
		Relations: []Relation{{From: "SPDXRef-DOCUMENT", Kind: "DESCRIBES", To: root.ID}},
	}
}

// NewPackage returns a package; locator is its purl (https://github.com/package-url/purl-spec), or empty.
func NewPackage(id, name, version, locator string) Package {
	p := Package{ID: id, Name: name, Version: version, Location: "NOASSERTION"}
	if locator != "" {
		p.Refs = []External{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: locator}}
	}
	return p
}

// Add puts a package into the document, as a part of what it describes.
func (d *Document) Add(p Package) {
	d.Packages = append(d.Packages, p)
	d.Relations = append(d.Relations, Relation{From: d.Packages[0].ID, Kind: "CONTAINS", To: p.ID})
}

// Text returns the document as JSON.
func (d *Document) Text() ([]byte, error) {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the bill of materials: %w", err)
	}
	return append(text, '\n'), nil
}
