// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hello is a repository with one program.
func hello(t *testing.T) (*factory, source) {
	t.Helper()
	root := t.TempDir()
	module := filepath.Join(root, "hello")
	require.NoError(t, os.Mkdir(module, 0o755))
	for path, text := range map[string]string{
		"go.work": "go 1.26\n\nuse ./hello\n", "hello/go.mod": "module example.com/hello\n\ngo 1.26\n", "hello/main.go": "package main\n\nfunc main() { println(\"hello\") }\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o600))
	}
	f := &factory{
		root:      root,
		out:       t.TempDir(),
		tag:       "v1",
		platforms: []string{"linux/amd64", "linux/arm64"},
		log:       io.Discard,
	}
	require.NoError(t, f.check())
	return f, source{name: "hello", module: "hello", programs: []program{{".", "hello"}, {".", "bin/again"}}}
}

func digest(t *testing.T, f *factory) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.out, "hello.digest"))
	require.NoError(t, err)
	folder, err := layout.FromPath(filepath.Join(f.out, "oci", "hello"))
	require.NoError(t, err)
	index, err := folder.ImageIndex()
	require.NoError(t, err)
	content, err := index.Digest()
	require.NoError(t, err)
	assert.Equal(t, content.String(), strings.TrimSpace(string(text)), "the layout holds what the digest names")
	return content.String()
}

// Guards against an image whose digest depends on the folder or the moment in which it was built.
func TestTheSameSourcesMakeTheSameImage(t *testing.T) {
	one, s := hello(t)
	other, _ := hello(t)
	require.NoError(t, one.make(t.Context(), s))
	require.NoError(t, other.make(t.Context(), s))
	assert.Equal(t, digest(t, one), digest(t, other))
}

// Guards against an image that a restricted pod cannot run, or that has no certificate authorities.
func TestImageHasBinaryUnprivilegedUserAndCertificates(t *testing.T) {
	f, s := hello(t)
	require.NoError(t, f.make(t.Context(), s))
	image, err := tarball.ImageFromPath(filepath.Join(f.out, "hello.tar"), nil)
	require.NoError(t, err)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	assert.Equal(t, "65532:65532", config.Config.User)
	assert.Equal(t, []string{"/hello"}, config.Config.Entrypoint)
	files := map[string]int64{}
	reader := mutate.Extract(image)
	defer func() { assert.NoError(t, reader.Close()) }()
	for content := tar.NewReader(reader); ; {
		header, err := content.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		files[header.Name] = header.Mode
		if header.Name == "etc/ssl/certs/ca-certificates.crt" {
			text, err := io.ReadAll(content)
			require.NoError(t, err)
			assert.Greater(t, strings.Count(string(text), "BEGIN CERTIFICATE"), 50)
		}
	}
	assert.Equal(t, int64(0o755), files["hello"])
	assert.Equal(t, int64(0o755), files["bin/again"])
	assert.Contains(t, files, "etc/ssl/certs/ca-certificates.crt")
	assert.FileExists(t, filepath.Join(f.out, "hello.spdx.json"))
}

// Guards against a registry that has one platform only.
func TestEveryPlatformIsPushed(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	f, s := hello(t)
	f.push, f.plainHTTP = strings.TrimPrefix(server.URL, "http://")+"/kaito", true
	require.NoError(t, f.make(t.Context(), s))
	reference, err := name.ParseReference(f.push + "/hello:v1")
	require.NoError(t, err)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := remote.Image(reference, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		require.NoError(t, err)
		config, err := image.ConfigFile()
		require.NoError(t, err)
		assert.Equal(t, arch, config.Architecture)
	}
}

func TestWhatCannotBeMadeIsNamed(t *testing.T) {
	_, err := choose([]string{"gatway"})
	assert.ErrorContains(t, err, `no image "gatway"; there are workspace-operator, gateway`)
	f, s := hello(t)
	f.platforms = []string{"windows/amd64"}
	assert.ErrorContains(t, f.check(), `--platforms has "windows/amd64"`)
	f.platforms, s.programs = []string{"linux/amd64"}, []program{{"./nowhere", "hello"}}
	assert.ErrorContains(t, f.make(t.Context(), s), "building ./nowhere for amd64")
	assert.NoFileExists(t, filepath.Join(f.out, "hello.tar"))
}
