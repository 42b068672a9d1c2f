// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/hack/images/spdx"
)

const (
	hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	hashC = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
)

// trainer is the folder of an image with two packages, of which pip's report names one file each.
type trainer struct{ folder, report string }

func newTrainer(t *testing.T, licences ...string) trainer {
	t.Helper()
	x := trainer{folder: t.TempDir()}
	x.report = filepath.Join(x.folder, "report.json")
	x.write(t, "Dockerfile", "# The image\nARG BASE=example.com/base:1@sha256:"+hashC+"\nFROM ${BASE}\n")
	x.write(
		t, "requirements.lock",
		"Two_Words==2.0 \\\n    --hash=sha256:"+hashA+" \\\n    --hash=sha256:"+hashB+"\n    # via one\none==1.0 \\\n    --hash=sha256:"+hashC+"\n",
	)
	licences = append(licences, "MIT", "NVIDIA Proprietary Software")
	x.write(t, "report.json", `{"install": [
		{"download_info": {"archive_info": {"hashes": {"sha256": "`+hashB+`"}}}, "metadata": {"name": "two-words", "version": "2.0", "license": "`+licences[0]+`"}},
		{"download_info": {"archive_info": {"hashes": {"sha256": "`+hashC+`"}}}, "metadata": {"name": "One", "version": "1.0", "license": "`+licences[1]+`"}}]}`)
	return x
}

func (x trainer) write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(x.folder, file), []byte(text), 0o600))
}

func (x trainer) read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(x.folder, file))
	require.NoError(t, err)
	return string(text)
}

// replace changes a text in a file; it has to be there.
func (x trainer) replace(t *testing.T, file, from, to string) {
	t.Helper()
	text := x.read(t, file)
	require.Contains(t, text, from)
	x.write(t, file, strings.ReplaceAll(text, from, to))
}

func (x trainer) run(args ...string) (int, string) {
	var out bytes.Buffer
	code := run(append([]string{"--folder", x.folder}, args...), &out, &out)
	return code, out.String()
}

func TestBothFilesNameEveryPackageOfTheLock(t *testing.T) {
	x := newTrainer(t)
	code, out := x.run("names")
	require.Zero(t, code, out)
	assert.Equal(t, "one==1.0\ntwo-words==2.0\n", out)
	code, out = x.run("write", x.report)
	require.Zero(t, code, out)

	var document spdx.Document
	require.NoError(t, json.Unmarshal([]byte(x.read(t, billFile)), &document))
	packages := map[string]spdx.Package{}
	for _, p := range document.Packages {
		packages[p.Name] = p
	}
	assert.Equal(t, "MIT", packages["two-words"].Declared)
	assert.Equal(t, []spdx.Checksum{{Algorithm: "SHA256", Value: hashB}}, packages["two-words"].Checksums)
	assert.Equal(t, "pkg:docker/example.com/base@sha256%3A"+hashC+"?tag=1", packages["example.com/base"].Refs[0].Locator)
	require.Len(t, document.Licenses, 1)
	assert.Equal(t, packages["one"].Declared, document.Licenses[0].ID, "a licence outside SPDX's list is described")
	assert.Contains(
		t, x.read(t, licenceFile), "| one | 1.0 | LicenseRef-NVIDIA-Proprietary |\n| two-words | 2.0 | MIT |\n",
	)

	code, out = x.run("check")
	assert.Zero(t, code, out)
}

// Guards against a report that is older than what the image installs.
func TestCheckFailsWhenLockAndReportDisagree(t *testing.T) {
	for title, test := range map[string]struct{ file, from, to, want string }{
		"a new version":   {"requirements.lock", "one==1.0", "one==1.1", "has no one 1.1, which the lock has"},
		"a new package":   {"requirements.lock", "one==1.0", "new==3.0 --hash=sha256:" + hashA + "\none==1.0", "has no new 3.0, which the lock has"},
		"another file":    {"requirements.lock", hashB, hashC, "which the lock does not allow"},
		"no hash":         {"requirements.lock", "--hash=sha256:" + hashC, "", "one has no hash"},
		"another base":    {"Dockerfile", "base:1", "base:2", "differs from what"},
		"an edited page":  {licenceFile, "| MIT |", "| ISC |", "LICENCES.md differs from what"},
		"an edited SBOM":  {billFile, "pkg:pypi/one", "pkg:pypi/won", "sbom.spdx.json differs from what"},
		"a refused one":   {billFile, `"MIT"`, `"GPL-3.0-only"`, `two-words has the licence "GPL-3.0-only"`},
		"a removed entry": {"requirements.lock", "one==1.0 \\\n", "", "differs from what"},
	} {
		t.Run(title, func(t *testing.T) {
			x := newTrainer(t)
			code, out := x.run("write", x.report)
			require.Zero(t, code, out)
			x.replace(t, test.file, test.from, test.to)
			code, out = x.run("check")
			assert.Equal(t, 1, code)
			assert.Contains(t, out, test.want)
		})
	}
}

func TestANewBaseNeedsNoReport(t *testing.T) {
	x := newTrainer(t)
	code, out := x.run("write", x.report)
	require.Zero(t, code, out)
	x.replace(t, "Dockerfile", hashC, hashA)
	code, out = x.run("write")
	require.Zero(t, code, out)
	code, out = x.run("check")
	assert.Zero(t, code, out)
	assert.Contains(t, x.read(t, billFile), "sha256%3A"+hashA)
}

func TestALicenceThatIsNotKnownIsRefused(t *testing.T) {
	for declared, want := range map[string]string{"GPL-3.0-only": "read its LICENSE", "BSD": "read its LICENSE", "": "read its LICENSE", "MIT AND AGPL-3.0-only": "read its LICENSE"} {
		x := newTrainer(t, declared)
		code, out := x.run("write", x.report)
		assert.Equal(t, 1, code, declared)
		assert.Contains(t, out, want)
		assert.NoFileExists(t, filepath.Join(x.folder, billFile))
	}
	assert.ErrorContains(t, allowedLicence("x", "MIT OR (GPL-2.0-only AND Zlib)"), "allowed are")
	assert.NoError(t, allowedLicence("x", "(MIT OR Apache-2.0) AND Zlib"))
}

func TestTheTrainersReportMatchesItsLock(t *testing.T) {
	assert.NoError(t, check(filepath.Join("..", "..", "..", "tuning-operator", "trainer")))
}
