// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// world is a repository whose files name images of a registry in this process.
type world struct {
	root, registry string
}

func newWorld(t *testing.T) world {
	t.Helper()
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	return world{root: t.TempDir(), registry: strings.TrimPrefix(server.URL, "http://")}
}

func (w world) write(t *testing.T, file, text string) {
	t.Helper()
	path := filepath.Join(w.root, file)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "REGISTRY", w.registry)), 0o600))
}

func (w world) read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(w.root, file))
	require.NoError(t, err)
	return strings.ReplaceAll(string(content), w.registry, "REGISTRY")
}

// push makes a new image of two platforms and returns the digest of its index.
func (w world) push(t *testing.T, image string) string {
	t.Helper()
	index, err := random.Index(16, 1, 2)
	require.NoError(t, err)
	tag, err := name.NewTag(w.registry + "/" + image)
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(tag, index))
	digest, err := index.Digest()
	require.NoError(t, err)
	return digest.String()
}

// run runs the command and returns its exit code and all that it prints.
func (w world) run(t *testing.T, verb string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), []string{"--root", w.root, "--plain-http", verb}, &out, &out)
	return code, strings.ReplaceAll(out.String(), w.registry, "REGISTRY")
}

const old = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

const dockerfileText = `# A comment with FROM REGISTRY/comment:1 in it.
ARG BASE=REGISTRY/base:1
ARG UNUSED=REGISTRY/unused:1
FROM --platform=$BUILDPLATFORM REGISTRY/golang:1.26@` + old + ` AS builder
FROM ${BASE}
COPY --from=builder /out /out
FROM scratch AS empty
FROM builder
`

const catalogueText = `engines:
- name: vllm
  image: REGISTRY/vllm:v1 # the newest
- image: "REGISTRY/vllm:v1"
`

func TestUpdatePinsEachTagAndKeepsItReadable(t *testing.T) {
	w := newWorld(t)
	base, golang, vllm := w.push(t, "base:1"), w.push(t, "golang:1.26"), w.push(t, "vllm:v1")
	w.write(t, "operator/Dockerfile", dockerfileText)
	w.write(t, "shared/catalog/data/engines.yaml", catalogueText)

	code, out := w.run(t, "update")
	require.Zero(t, code, out)
	assert.Equal(
		t, strings.NewReplacer("REGISTRY/base:1", "REGISTRY/base:1@"+base, old, golang).Replace(dockerfileText),
		w.read(t, "operator/Dockerfile"),
	)
	assert.Equal(
		t, strings.ReplaceAll(catalogueText, "vllm:v1", "vllm:v1@"+vllm), w.read(t, "shared/catalog/data/engines.yaml"),
	)

	code, out = w.run(t, "update")
	assert.Zero(t, code)
	assert.Empty(t, out, "nothing is left to do")
	code, out = w.run(t, "check")
	assert.Zero(t, code)
	assert.Contains(t, out, "4 images are at the digest of their tag")
}

func TestCheckNamesATagThatHasMoved(t *testing.T) {
	w := newWorld(t)
	now := w.push(t, "vllm:v1")
	w.write(t, "shared/catalog/data/engines.yaml", "image: REGISTRY/vllm:v1@"+old+"\nimage: REGISTRY/vllm:v1\n")
	code, out := w.run(t, "check")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "CHANGED     shared/catalog/data/engines.yaml:1  REGISTRY/vllm:v1@"+old+" is "+now+" now")
	assert.Contains(t, out, "NOT PINNED  shared/catalog/data/engines.yaml:2  REGISTRY/vllm:v1 is "+now+" now")
	assert.Contains(t, out, "2 of 2 images")
}

// Guards against a digest that is lost because a registry is down.
func TestAnImageWithoutAnAnswerStaysAsItIs(t *testing.T) {
	w := newWorld(t)
	known := w.push(t, "known:1")
	text := "FROM REGISTRY/gone:1@" + old + " AS one\nFROM REGISTRY/known:1\nFROM REGISTRY/bare\n"
	w.write(t, "Dockerfile", text)
	code, out := w.run(t, "update")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "Dockerfile:1: asking for REGISTRY/gone:1")
	assert.Contains(t, out, `Dockerfile:3: "REGISTRY/bare" has no tag`)
	assert.Equal(t, strings.Replace(text, "known:1", "known:1@"+known, 1), w.read(t, "Dockerfile"))
}

func TestListAsksNoRegistry(t *testing.T) {
	w := newWorld(t)
	w.write(t, "Dockerfile", "FROM nowhere.invalid/a:1@"+old+"\nFROM nowhere.invalid/b:1\n")
	code, out := w.run(t, "list")
	assert.Zero(t, code)
	assert.Equal(
		t,
		"pinned      Dockerfile:1  nowhere.invalid/a:1@"+old+"\nNOT PINNED  Dockerfile:2  nowhere.invalid/b:1\n1 of 2 images have no digest\n",
		out,
	)
}

func TestWrongUsageIsRefused(t *testing.T) {
	w := newWorld(t)
	code, out := w.run(t, "pin")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "list, check, update")
	code, out = w.run(t, "list")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "no Dockerfile")
}

// Guards against a base image of this repository that a registry can swap under a release.
func TestBasesOfThisRepositoryArePinned(t *testing.T) {
	all, err := find(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	bases := 0
	for _, r := range all {
		if filepath.Base(r.file) == "Dockerfile" {
			bases++
			assert.NotEmpty(t, r.digest, "%s:%d: %s has no digest: run `make digests`", r.file, r.line, r.tagged)
		}
	}
	assert.GreaterOrEqual(t, bases, 7)
}
