// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	gcrv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// image creates an image with the given layers in the server.
func (s *server) image(t *testing.T, ref string, layers ...gcrv1.Layer) {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	require.NoError(t, err)
	r, err := name.ParseReference(s.host + ref)
	require.NoError(t, err)
	require.NoError(t, remote.Write(r, img, s.crane(t)...))
}

// artifact creates an artifact as tools for models push it: each layer has the title of its file or folder.
func (s *server) artifact(t *testing.T, ref string, layers ...mutate.Addendum) {
	t.Helper()
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	require.NoError(t, err)
	r, err := name.ParseReference(s.host + ref)
	require.NoError(t, err)
	require.NoError(t, remote.Write(r, img, s.crane(t)...))
}

func TestPullReadsFilesBelowData(t *testing.T) {
	s := newServer(t)
	var z bytes.Buffer
	zw, err := zstd.NewWriter(&z)
	require.NoError(t, err)
	_, err = zw.Write(tarball(t, entry{name: "./data/three.jsonl", body: "3"}))
	require.NoError(t, err)
	require.NoError(t, zw.Close())
	s.image(
		t,
		"/team/data:1",
		gzipped(
			t,
			tarball(
				t, entry{name: "etc/passwd", body: "root"}, entry{name: "data/one.jsonl", body: "1"},
				entry{name: "/data/gone.jsonl", body: "x"}, entry{name: "data/old/a", body: "x"},
			),
		),
		static.NewLayer(
			tarball(
				t, entry{name: "data/sub/two.jsonl", body: "2"}, entry{name: "data/.wh.gone.jsonl"},
				entry{name: "data/old/new", body: "4"}, entry{name: "data/old/.wh..wh..opq"},
			),
			types.OCIUncompressedLayer,
		),
		static.NewLayer(z.Bytes(), types.OCILayerZStd),
	)
	dir := t.TempDir()
	got, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/team/data:1", dir, nil)
	require.NoError(t, err)
	want := map[string]string{"one.jsonl": "1", "sub/two.jsonl": "2", "three.jsonl": "3", "old/new": "4"}
	assert.Equal(t, want, contents(t, dir))
	assert.Len(t, got.Files, 4)
	assert.Regexp(t, `^sha256:[0-9a-f]{64}$`, got.Digest)
}

func TestPullReadsTitledLayers(t *testing.T) {
	s := newServer(t)
	s.artifact(t, "/artifact:1", mutate.Addendum{
		Layer:       static.NewLayer([]byte("weights"), "application/vnd.cncf.model.weight.v1.raw"),
		Annotations: map[string]string{"org.cncf.model.filepath": "model.safetensors"},
	})
	dir := t.TempDir()
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/artifact:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"model.safetensors": "weights"}, contents(t, dir))
}

// The artifact is that of `oras push weights/`, as the public weight images of the catalogue are.
func TestPullUnpacksAFolderOfAnArtifact(t *testing.T) {
	s := newServer(t)
	s.artifact(t, "/artifact:1", mutate.Addendum{
		Layer: gzipped(
			t,
			tarball(
				t, entry{name: "weights/config.json", body: "{}"}, entry{name: "weights/sub/a.safetensors", body: "1"},
				entry{name: "elsewhere", body: "2"},
			),
		),
		Annotations: map[string]string{"org.opencontainers.image.title": "weights", "io.deis.oras.content.unpack": "true"},
	})
	dir := t.TempDir()
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/artifact:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"config.json": "{}", "sub/a.safetensors": "1"}, contents(t, dir))
}

func TestPullSelectsThePlatform(t *testing.T) {
	s := newServer(t)
	index := gcrv1.ImageIndex(empty.Index)
	for _, arch := range []string{"arm64", "amd64"} {
		img, err := mutate.AppendLayers(empty.Image, gzipped(t, tarball(t, entry{name: "data/arch", body: arch})))
		require.NoError(t, err)
		index = mutate.AppendManifests(
			index,
			mutate.IndexAddendum{
				Add:        img,
				Descriptor: gcrv1.Descriptor{Platform: &gcrv1.Platform{OS: "linux", Architecture: arch}},
			},
		)
	}
	r, err := name.ParseReference(s.host + "/multi:1")
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(r, index, s.crane(t)...))
	dir := t.TempDir()
	_, err = s.client(t, s.config()).Pull(context.Background(), s.host+"/multi:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"arch": "amd64"}, contents(t, dir))
}

func TestPullRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		layers   []entry
		maxBytes int64
		ref      string
		noAuth   bool
		reason   string
	}{
		"more than the budget": {layers: []entry{{name: "data/a", body: "12345"}, {name: "data/b", body: "12345"}}, maxBytes: 9, reason: tuningv1alpha1.ReasonSourceTooLarge},
		"nothing below /data":  {layers: []entry{{name: "etc/x", body: "1"}}, reason: tuningv1alpha1.ReasonSourceInvalid},
		"links only":           {layers: []entry{{name: "data/a", kind: tar.TypeSymlink, link: "/etc/passwd"}}, reason: tuningv1alpha1.ReasonSourceInvalid},
		"an unknown tag":       {ref: "/x:none", layers: []entry{{name: "data/a", body: "1"}}, reason: tuningv1alpha1.ReasonSourceNotFound},
		"no credentials":       {noAuth: true, layers: []entry{{name: "data/a", body: "1"}}, reason: tuningv1alpha1.ReasonSourceDenied},
		"no tag":               {ref: "/x", layers: []entry{{name: "data/a", body: "1"}}, reason: tuningv1alpha1.ReasonSourceInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.image(t, "/x:1", gzipped(t, tarball(t, c.layers...)))
			config, ref := s.config(), "/x:1"
			if c.noAuth {
				config = ""
			}
			if c.ref != "" {
				ref = c.ref
			}
			_, err := s.client(t, config).Pull(context.Background(), s.host+ref, t.TempDir(), disk.NewBudget(c.maxBytes))
			require.Error(t, err)
			f := fault.Of(err, "Unsorted")
			assert.Equal(t, c.reason, f.Reason)
			assert.True(t, f.Permanent)
		})
	}
}

func TestPullStaysInItsFolder(t *testing.T) {
	s := newServer(t)
	s.image(t, "/evil:1", gzipped(t, tarball(t,
		entry{name: "data/../../outside", body: "x"}, entry{name: "../../../data/../outside2", body: "x"},
		entry{name: "data/link", kind: tar.TypeSymlink, link: "/"}, entry{name: "data/link/planted", body: "inside"},
		entry{name: "data/ok", body: "1"})))
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/evil:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a/b/ok": "1", "a/b/link/planted": "inside"}, contents(t, root))
}

func TestPullVerifiesDigests(t *testing.T) {
	s := newServer(t)
	s.image(t, "/x:1", gzipped(t, tarball(t, entry{name: "data/a", body: "good"})))
	layers := 0
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); !ok || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		layers++
		if layers > 1 {
			return false
		}
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		_, _ = zw.Write(tarball(t, entry{name: "data/a", body: "evil"}))
		_ = zw.Close()
		_, _ = w.Write(b.Bytes())
		return true
	}
	dir := t.TempDir()
	_, err := s.client(t, s.config()).Pull(context.Background(), s.host+"/x:1", dir, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "good"}, contents(t, dir), "the wrong bytes were noticed and fetched again")
}
