// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	gcrv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/netguard"
	"kaito.sh/tuning-operator/internal/runner/pack"
	"kaito.sh/tuning-operator/internal/runner/progress"
	"kaito.sh/tuning-operator/internal/runner/registry"
)

// server is a registry with TLS, basic authentication and optional faults.
type server struct {
	*httptest.Server
	host    string
	uploads atomic.Int32
	// fault is called first. It returns true if it has answered.
	fault func(w http.ResponseWriter, r *http.Request) bool
	// line is the connection that sends blobs. A request of an earlier client may still use the previous one.
	line atomic.Pointer[func(w http.ResponseWriter) http.ResponseWriter]
}

// by sets the line that sends blobs.
func (s *server) by(line func(w http.ResponseWriter) http.ResponseWriter) { s.line.Store(&line) }

const user, password = "robot", "s3cret"

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	backend := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.fault != nil && s.fault(w, r) {
			return
		}
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
			s.uploads.Add(1)
		}
		if line := s.line.Load(); line != nil && r.Method == http.MethodGet &&
			strings.Contains(r.URL.Path, "/blobs/sha256:") {
			w = (*line)(w)
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "https://")
	return s
}

func (s *server) client(t *testing.T, config string) *registry.Client {
	t.Helper()
	var paths []string
	if config != "" {
		p := filepath.Join(t.TempDir(), ".dockerconfigjson")
		require.NoError(t, os.WriteFile(p, []byte(config), 0o600))
		paths = append(paths, p)
	}
	cred, err := registry.Credentials(paths...)
	require.NoError(t, err)
	return &registry.Client{
		HTTP: s.Client(), Credential: cred, Clock: clock.RealClock{}, Backoff: wait.Backoff{Steps: 3},
		Progress: progress.New("push", io.Discard, clock.RealClock{}), AllowLocal: true,
	}
}

func (s *server) config() string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func (s *server) crane(t *testing.T) []remote.Option {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{
		RootCAs:    s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
		MinVersion: tls.VersionTLS12,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return []remote.Option{
		remote.WithTransport(transport),
		remote.WithAuth(&authn.Basic{Username: user, Password: password}),
	}
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for n, body := range files {
		p := filepath.Join(dir, filepath.FromSlash(n))
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, []byte(body), 0o600))
	}
	return dir
}

func build(t *testing.T, files map[string]string) *pack.Image {
	t.Helper()
	img, err := pack.Build(folder(t, files), map[string]string{pack.AnnotationBaseModel: "org/model"})
	require.NoError(t, err)
	return img
}

func TestPushedImageIsReadableByOtherClients(t *testing.T) {
	s := newServer(t)
	img := build(t, map[string]string{"adapter_config.json": `{"peft_type":"LORA"}`, "sub/x": "y"})
	digest, err := s.client(t, s.config()).Push(context.Background(), s.host+"/team/adapter:0.0.1", img)
	require.NoError(t, err)

	ref, err := name.ParseReference(s.host + "/team/adapter:0.0.1")
	require.NoError(t, err)
	got, err := remote.Image(ref, s.crane(t)...)
	require.NoError(t, err)
	d, err := got.Digest()
	require.NoError(t, err)
	assert.Equal(t, d.String(), digest)
	manifest, err := got.Manifest()
	require.NoError(t, err)
	assert.Equal(t, "org/model", manifest.Annotations[pack.AnnotationBaseModel])
	fs := mutate.Extract(got)
	defer func() { _ = fs.Close() }()
	files := map[string]string{}
	tr := tar.NewReader(fs)
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		if h.Typeflag == tar.TypeReg {
			body, err := io.ReadAll(tr)
			require.NoError(t, err)
			files[h.Name] = string(body)
		}
	}
	assert.Equal(t, map[string]string{"data/adapter_config.json": `{"peft_type":"LORA"}`, "data/sub/x": "y"}, files)
}

func TestSecondPushSendsNoLayer(t *testing.T) {
	s := newServer(t)
	img := build(t, map[string]string{"a": "b"})
	first, err := s.client(t, s.config()).Push(context.Background(), s.host+"/x:1", img)
	require.NoError(t, err)
	s.uploads.Store(0)
	second, err := s.client(t, s.config()).Push(context.Background(), s.host+"/x:2", img)
	require.NoError(t, err)
	assert.Equal(t, first, second)
	assert.LessOrEqual(t, s.uploads.Load(), int32(1), "the small config at most")
}

func TestPushRetriesAFailedUpload(t *testing.T) {
	s := newServer(t)
	cuts := 0
	s.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") && cuts < 2 {
			cuts++
			if cuts == 1 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	_, err := s.client(t, s.config()).
		Push(context.Background(), s.host+"/x:1", build(t, map[string]string{"a": strings.Repeat("b", 1<<20)}))
	require.NoError(t, err)
	assert.Equal(t, 2, cuts)
}

func TestPushRefusals(t *testing.T) {
	wrong := func(s *server) string {
		return fmt.Sprintf(`{"auths":{%q:{"username":"robot","password":"old"}}}`, s.host)
	}
	for name, c := range map[string]struct {
		config    func(*server) string
		ref       string
		status    int
		reason    string
		permanent bool
	}{
		"no credentials":                  {config: func(*server) string { return "" }, reason: tuningv1alpha1.ReasonOutputDenied, permanent: true},
		"credentials of another registry": {config: func(*server) string { return `{"auths":{"other.azurecr.io":{"auth":"cm9ib3Q6czNjcmV0"}}}` }, reason: tuningv1alpha1.ReasonOutputDenied, permanent: true},
		"a wrong password":                {config: wrong, reason: tuningv1alpha1.ReasonOutputDenied, permanent: true},
		"an unavailable registry":         {status: 503, reason: tuningv1alpha1.ReasonPushFailed},
		"a digest as destination":         {ref: "/x@sha256:" + strings.Repeat("a", 64), reason: tuningv1alpha1.ReasonOutputInvalid, permanent: true},
		"no tag":                          {ref: "/x", reason: tuningv1alpha1.ReasonOutputInvalid, permanent: true},
		"an invalid reference":            {ref: "/UPPER case:1", reason: tuningv1alpha1.ReasonOutputInvalid, permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			config, ref := s.config(), "/x:1"
			if c.config != nil {
				config = c.config(s)
			}
			if c.ref != "" {
				ref = c.ref
			}
			if c.status != 0 {
				s.fault = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(c.status); return true }
			}
			client := s.client(t, config)
			_, err := client.Push(context.Background(), s.host+ref, build(t, map[string]string{"a": "b"}))
			check := client.CheckPush(context.Background(), s.host+ref)
			for what, err := range map[string]error{"the push": err, "the check before it": check} {
				require.Error(t, err, what)
				f := fault.Of(err, "Unsorted")
				assert.Equal(t, c.reason, f.Reason, what)
				assert.Equal(t, c.permanent, f.Permanent, what)
				assert.NotContains(t, err.Error(), password)
			}
		})
	}
}

func TestCheckPushCancelsItsUpload(t *testing.T) {
	s := newServer(t)
	var asked []string
	s.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.Method)
		return false
	}
	require.NoError(t, s.client(t, s.config()).CheckPush(context.Background(), s.host+"/team/x:1"))
	assert.Equal(t, []string{"POST", "POST", "DELETE"}, asked, "unauthorized, authorized, given back")
	assert.Zero(t, s.uploads.Load())
}

func TestCredentialFiles(t *testing.T) {
	t.Run("the second file is asked when the first does not know the registry", func(t *testing.T) {
		s := newServer(t)
		dir := folder(t, map[string]string{"one": `{"auths":{"other.example":{"auth":"YTpi"}}}`, "two": s.config()})
		cred, err := registry.Credentials(filepath.Join(dir, "one"), filepath.Join(dir, "two"))
		require.NoError(t, err)
		got, err := cred(context.Background(), s.host)
		require.NoError(t, err)
		assert.Equal(t, user, got.Username)
	})
	t.Run("a helper that a file names is not run", func(t *testing.T) {
		dir := folder(t, map[string]string{"config": `{"credsStore":"evil","credHelpers":{"r.example":"evil"},"auths":{}}`})
		cred, err := registry.Credentials(filepath.Join(dir, "config"))
		require.NoError(t, err)
		got, err := cred(context.Background(), "r.example")
		require.NoError(t, err)
		assert.Empty(t, got.Username)
	})
	t.Run("an invalid docker config is named without its content", func(t *testing.T) {
		dir := folder(t, map[string]string{"config": "password=hunter2"})
		_, err := registry.Credentials(filepath.Join(dir, "config"))
		require.ErrorContains(t, err, "docker-registry")
		assert.NotContains(t, err.Error(), "hunter2")
	})
}

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

type entry struct {
	name, body string
	kind       byte
	link       string
}

func tarball(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		require.NoError(
			t,
			w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Size: int64(len(e.body)), Mode: 0o644, Linkname: e.link}),
		)
		_, err := w.Write([]byte(e.body))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func gzipped(t *testing.T, raw []byte) gcrv1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(raw)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return static.NewLayer(b.Bytes(), types.DockerLayer)
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ".incoming.json" {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(p)
		got[filepath.ToSlash(rel)] = string(raw)
		return err
	}))
	return got
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

func TestRegistriesMayBePrivateButNotLocal(t *testing.T) {
	s := newServer(t)
	client := s.client(t, s.config())
	client.HTTP = registry.NewHTTP(netguard.Policy{AllowPrivate: true})
	_, err := client.Pull(context.Background(), s.host+"/x:1", t.TempDir(), nil)
	var denied *netguard.DeniedError
	require.ErrorAs(t, err, &denied)
	assert.Equal(t, "loopback", denied.Kind)
}
