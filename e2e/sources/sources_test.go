// SPDX-License-Identifier: Apache-2.0

package sources_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/authority"
	"kaito.sh/e2e/sources"
)

// serve returns host:port and a transport that trusts the server.
func serve(t *testing.T, handler http.Handler) (string, *http.Transport) {
	t.Helper()
	dir := t.TempDir()
	ours, err := authority.Open(dir)
	require.NoError(t, err)
	certificate, err := ours.Server(nil)
	require.NoError(t, err)
	server, err := sources.Serve(t.Context(), "127.0.0.1:0", certificate, handler)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	text, err := os.ReadFile(filepath.Join(dir, authority.File))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return server.Address(), transport
}

func get(t *testing.T, transport http.RoundTripper, url string) (int, string) {
	t.Helper()
	response, err := (&http.Client{Transport: transport}).Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, string(body)
}

func TestTheHubHasTheRevisionThatIsPinnedAndItsRows(t *testing.T) {
	hub := sources.NewHub("")
	address, transport := serve(t, hub)
	pinned := strings.Repeat("a1", 20)
	code, body := get(t, transport, "https://"+address+"/api/models/org/model/revision/"+pinned+"?blobs=true")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, `"sha":"`+pinned+`"`)
	assert.Contains(t, body, `"rfilename":"model.safetensors"`)
	const file = "/datasets/org/data/resolve/main/data/train-00000-of-00001-54e3756291ca09c6.parquet"
	code, body = get(t, transport, "https://"+address+file+"?download=true")
	assert.Equal(t, http.StatusOK, code)
	rows := parquet.NewReader(bytes.NewReader([]byte(body)))
	assert.EqualValues(t, sources.Conversations, rows.NumRows())
	assert.Equal(t, 1, hub.Taken(file))
	code, _ = get(t, transport, "https://"+address+"/org/model/resolve/main/absent.bin")
	assert.Equal(t, http.StatusNotFound, code)
}

func TestTheRegistryAsksForTheLogin(t *testing.T) {
	login := sources.Login{User: "user", Password: "secret"}
	address, transport := serve(t, sources.NewRegistry(login))
	image, err := random.Image(64, 1)
	require.NoError(t, err)
	reference, err := name.ParseReference(address + "/adapter:1")
	require.NoError(t, err)
	require.Error(t, remote.Write(reference, image, remote.WithTransport(transport)))
	require.NoError(
		t,
		remote.Write(
			reference, image, remote.WithTransport(transport),
			remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: login.User, Password: login.Password})),
		),
	)
}
