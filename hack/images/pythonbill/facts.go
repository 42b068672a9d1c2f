// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"kaito.sh/hack/images/spdx"
)

// pipReport is the part of pip's installation report that is read here
// (https://pip.pypa.io/en/stable/reference/installation-report).
type pipReport struct {
	Install []struct {
		Download struct {
			Archive struct {
				Hashes map[string]string `json:"hashes"`
			} `json:"archive_info"`
		} `json:"download_info"`
		Metadata struct {
			Name, Version, License string
			Expression             string   `json:"license_expression"`
			Classifiers            []string `json:"classifier"`
		} `json:"metadata"`
	} `json:"install"`
}

// addReport adds what pip says about the files for the image's platform.
func addReport(lock []*python, file string) error {
	content, err := os.ReadFile(file) //nolint:gosec // the file that the user names
	if err != nil {
		return err
	}
	var report pipReport
	if err := json.Unmarshal(content, &report); err != nil {
		return fmt.Errorf("reading pip's report %s: %w", file, err)
	}
	for _, one := range report.Install {
		p := find(lock, normal(one.Metadata.Name))
		if p == nil || p.version != one.Metadata.Version {
			return fmt.Errorf("pip's report has %s %s, which the lock does not have", one.Metadata.Name, one.Metadata.Version)
		}
		p.hash = one.Download.Archive.Hashes["sha256"]
		if p.licence, err = licence(
			p.name, one.Metadata.Expression, one.Metadata.License, one.Metadata.Classifiers,
		); err != nil {
			return err
		}
	}
	return complete(lock, "pip's report")
}

// addBill adds what the SBOM says, for a check without a network.
func addBill(lock []*python, file string) error {
	content, err := os.ReadFile(file) //nolint:gosec // the file that the user names
	if err != nil {
		return err
	}
	var document spdx.Document
	if err := json.Unmarshal(content, &document); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	for _, known := range document.Packages {
		p := find(lock, known.Name)
		if p == nil || p.version != known.Version || len(known.Checksums) != 1 {
			continue
		}
		p.hash, p.licence = known.Checksums[0].Value, known.Declared
	}
	return complete(lock, file)
}

// complete returns an error for the first package without facts, or whose file or licence is not allowed.
func complete(lock []*python, from string) error {
	for _, p := range lock {
		switch {
		case p.hash == "":
			return fmt.Errorf("%s has no %s %s, which the lock has: run `make trainer-bill`", from, p.name, p.version)
		case !slices.Contains(p.hashes, p.hash):
			return fmt.Errorf("%s has the SHA-256 %s for %s %s, which the lock does not allow", from, p.hash, p.name, p.version)
		}
		if err := allowedLicence(p.name, p.licence); err != nil {
			return err
		}
	}
	return nil
}

func find(lock []*python, name string) *python {
	i, found := slices.BinarySearchFunc(
		lock, name, func(p *python, name string) int { return strings.Compare(p.name, name) },
	)
	if !found {
		return nil
	}
	return lock[i]
}
