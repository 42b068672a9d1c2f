package cli_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
)

// configMap writes files as the kubelet mounts a ConfigMap: in a folder of its version, with links to it.
func configMap(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "..2026_11_29"), 0o700))
	require.NoError(t, os.Symlink("..2026_11_29", filepath.Join(dir, "..data")))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "..data", name), content, 0o600))
		require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	return dir
}

// answers says whether a client that trusts what the file names, and nothing else, gets an answer.
func answers(t *testing.T, file string, w *world) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(text))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}} //nolint:gosec // the default version
	defer client.CloseIdleConnections()
	response, err := client.Get(w.URL + "/train.jsonl")
	if err != nil {
		return false
	}
	return assert.NoError(t, response.Body.Close())
}

func TestTrustWritesThePublicAuthoritiesAndOnesOwnIntoOneFile(t *testing.T) {
	public, own := newWorld(t), newWorld(t)
	certificate := func(w *world) []byte {
		return append([]byte("a comment\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})...)
	}
	roots, out := filepath.Join(t.TempDir(), "public.pem"), filepath.Join(t.TempDir(), "authorities.pem")
	require.NoError(t, os.WriteFile(roots, certificate(public), 0o600))

	o := own.run(t, t.Context(), nil, "trust", "--public", roots, "--authorities", configMap(t, map[string][]byte{"ca.crt": certificate(own)}), "--out", out)
	require.Zero(t, o.code, o.out+o.stderr)
	assert.Equal(t, message.StepTrust, o.message.Step)
	assert.True(t, answers(t, out, own))

	// A namespace need not have the ConfigMap.
	for _, folder := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		o = own.run(t, t.Context(), nil, "trust", "--public", roots, "--authorities", folder, "--out", out)
		require.Zero(t, o.code, o.out+o.stderr)
		assert.True(t, answers(t, out, public))
	}
}

func TestTrustNamesTheFileThatIsNoCertificate(t *testing.T) {
	w := newWorld(t)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})
	roots := filepath.Join(t.TempDir(), "public.pem")
	require.NoError(t, os.WriteFile(roots, certificate, 0o600))
	for name, content := range map[string][]byte{
		"text":        []byte("BEGIN CERTIFICATE"),
		"a key":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("key")}),
		"half of one": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw[:100]}),
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "authorities.pem")
			o := w.run(t, t.Context(), nil, "trust", "--public", roots, "--authorities", configMap(t, map[string][]byte{"good.crt": certificate, "ours.crt": content}), "--out", out)
			assert.Equal(t, message.ExitPermanent, o.code)
			assert.Equal(t, tuningv1alpha1.ReasonConfigInvalid, o.message.Reason)
			assert.Contains(t, o.message.Message, "ours.crt")
			assert.NoFileExists(t, out)
		})
	}
}
