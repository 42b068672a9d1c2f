// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// nvidia is the licence of CUDA's libraries, which SPDX's list does not have.
const nvidia = "LicenseRef-NVIDIA-Proprietary"

// allowed are the licences that an Apache-2.0 image may hold beside its own. NVIDIA's is here on purpose: LICENCES.md
// tells who passes the image on to read it.
var allowed = []string{
	"0BSD",
	"Apache-2.0",
	"BSD-2-Clause",
	"BSD-3-Clause",
	"CC0-1.0",
	"CNRI-Python",
	"ISC",
	"MIT",
	"MPL-2.0",
	"PSF-2.0",
	"Zlib",
	nvidia,
}

// spellings are licence fields that are not SPDX expressions, and classifiers of packages without such a field.
var spellings = map[string]string{
	"Apache":                      "Apache-2.0",
	"Apache 2.0":                  "Apache-2.0",
	"Apache 2.0 License":          "Apache-2.0",
	"NVIDIA Proprietary Software": nvidia,
	"License :: OSI Approved :: Apache Software License": "Apache-2.0",
	"License :: OSI Approved :: MIT License":             "MIT",
}

// read are packages that declare no more than "BSD": their wheels' LICENSE was read, for the version that is named
// here.
var read = map[string]string{"jinja2": "BSD-3-Clause", "mpmath": "BSD-3-Clause", "sympy": "BSD-3-Clause"}

// licence returns the SPDX expression of a package's licence, from its expression, its field or its classifier.
func licence(name, expression, field string, classifiers []string) (string, error) {
	if expression != "" {
		return expression, nil
	}
	if known, ok := read[name]; ok {
		return known, nil
	}
	field = strings.TrimSpace(field)
	if known, ok := spellings[field]; ok {
		return known, nil
	}
	if field != "" && allowedLicence(name, field) == nil {
		return field, nil
	}
	for _, classifier := range classifiers {
		if known, ok := spellings[classifier]; ok && field == "" {
			return known, nil
		}
	}
	return "", fmt.Errorf(
		"%s declares the licence %q and %q: read its LICENSE, and add the SPDX expression to hack/images/pythonbill/licence.go",
		name, field, classifiers,
	)
}

var operators = regexp.MustCompile(`\s+(?:AND|OR)\s+`)

// allowedLicence returns an error for an expression with a licence that is not allowed. Of alternatives every one has
// to be.
func allowedLicence(name, expression string) error {
	for _, id := range operators.Split(strings.NewReplacer("(", " ", ")", " ").Replace(expression), -1) {
		if !slices.Contains(allowed, strings.TrimSpace(id)) {
			return fmt.Errorf("%s has the licence %q; allowed are %s", name, expression, strings.Join(allowed, ", "))
		}
	}
	return nil
}
