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
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	gcrv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

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

func TestRegistriesMayBePrivateButNotLocal(t *testing.T) {
	s := newServer(t)
	client := s.client(t, s.config())
	client.HTTP = registry.NewHTTP(netguard.Policy{AllowPrivate: true})
	_, err := client.Pull(context.Background(), s.host+"/x:1", t.TempDir(), nil)
	var denied *netguard.DeniedError
	require.ErrorAs(t, err, &denied)
	assert.Equal(t, "loopback", denied.Kind)
}
