// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"

	"kaito.sh/hack/images/spdx"
)

// render returns the SBOM and the licence report.
func render(lock []*python, base string) (bill, licences []byte, err error) {
	tagged, digest, _ := strings.Cut(base, "@")
	repository, tag, _ := strings.Cut(tagged, ":")
	document := spdx.New("trainer", "hack/images/pythonbill", spdx.NewPackage("SPDXRef-image", "trainer", "", ""))
	document.Comment = "The Python packages of requirements.lock for Python 3.11 on linux/amd64, and the base image by name. What the base image " +
		"holds beside them (an operating system, Python, CUDA) its publisher describes."
	locator := "pkg:docker/" + repository + "@" + tag
	if digest != "" {
		locator = "pkg:docker/" + repository + "@" + strings.Replace(digest, ":", "%3A", 1) + "?tag=" + tag
	}
	document.Packages = append(document.Packages, spdx.NewPackage("SPDXRef-base", repository, tag, locator))
	document.Relations = append(
		document.Relations, spdx.Relation{From: "SPDXRef-image", Kind: "DESCENDANT_OF", To: "SPDXRef-base"},
	)
	hash, proprietary := sha256.New(), false
	var table bytes.Buffer
	for _, p := range lock {
		one := spdx.NewPackage("SPDXRef-python-"+p.name, p.name, p.version, "pkg:pypi/"+p.name+"@"+p.version)
		one.Checksums = []spdx.Checksum{{Algorithm: "SHA256", Value: p.hash}}
		one.Declared = p.licence
		document.Add(one)
		proprietary = proprietary || p.licence == nvidia
		_, _ = fmt.Fprintf(hash, "%s %s %s\n", p.name, p.version, p.hash) // a hash takes everything
		_, _ = fmt.Fprintf(&table, "| %s | %s | %s |\n", p.name, p.version, p.licence)
	}
	_, _ = fmt.Fprintln(hash, base)
	if proprietary {
		document.Licenses = []spdx.License{
			{
				ID:   nvidia,
				Name: "NVIDIA's licence of the CUDA toolkit and its libraries",
				Text: "The package declares \"NVIDIA Proprietary Software\". Its terms are in the package and at https://docs.nvidia.com/cuda/eula.",
			},
		}
	}
	document.Namespace = fmt.Sprintf("https://kaito.sh/spdx/trainer-%x", hash.Sum(nil))
	bill, err = document.Text()
	return bill, append([]byte(preface(base)), table.Bytes()...), err
}

func preface(base string) string {
	return `# Licences of the trainer's image

` + "`make trainer-bill`" + ` writes this page from requirements.lock and what PyPI says about its packages; ` + "`make verify`" + ` compares them. The same facts as SPDX are in
[sbom.spdx.json](sbom.spdx.json). A licence is what the package declares: this page does not compare it with the
sources.

- The packages named nvidia-* with ` + nvidia + ` are not free software. Read [NVIDIA's terms](https://docs.nvidia.com/cuda/eula) before you pass
  on an image that holds them.
- The base image, ` + "`" + base + "`" + `, holds more than these packages: an operating system, Python, CUDA.

| package | version | licence |
|---|---|---|
`
}
