// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
)

// configMap writes files as the kubelet mounts a ConfigMap: in a folder for the version, with links to it.
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

// authority returns a new certificate.
func authority(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// trusted returns the names of the authorities in a file.
func trusted(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var names []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		names = append(names, certificate.Subject.CommonName)
	}
	return names
}

func TestTrustWritesPublicAndOwnAuthorities(t *testing.T) {
	w := newWorld(t)
	roots, out := filepath.Join(t.TempDir(), "public.pem"), filepath.Join(t.TempDir(), "authorities.pem")
	require.NoError(t, os.WriteFile(roots, authority(t, "public"), 0o600))
	two := append(append([]byte("a comment\n"), authority(t, "ours")...), authority(t, "also ours")...)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		folder string
		want   []string
	}{
		{configMap(t, map[string][]byte{"a.crt": two, "b.crt": authority(t, "theirs")}), []string{"public", "ours", "also ours", "theirs"}},
		// A namespace need not have the ConfigMap. Earlier authorities are no longer trusted.
		{t.TempDir(), []string{"public"}},
		{missing, []string{"public"}},
	} {
		o := w.run(t, t.Context(), nil, "trust", "--public", roots, "--authorities", test.folder, "--out", out)
		require.Zero(t, o.code, o.out+o.stderr)
		assert.Equal(t, message.StepTrust, o.message.Step)
		assert.Equal(t, test.want, trusted(t, out))
	}
}

func TestTrustNamesAFileWithoutCertificates(t *testing.T) {
	w := newWorld(t)
	certificate := authority(t, "good")
	roots := filepath.Join(t.TempDir(), "public.pem")
	require.NoError(t, os.WriteFile(roots, certificate, 0o600))
	for name, content := range map[string][]byte{
		"text":                    []byte("BEGIN CERTIFICATE"),
		"a key":                   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("key")}),
		"a truncated certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw[:100]}),
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "authorities.pem")
			o := w.run(
				t, t.Context(), nil, "trust", "--public", roots, "--authorities",
				configMap(t, map[string][]byte{"good.crt": certificate, "ours.crt": content}), "--out", out,
			)
			assert.Equal(t, message.ExitPermanent, o.code)
			assert.Equal(t, tuningv1alpha1.ReasonConfigInvalid, o.message.Reason)
			assert.Contains(t, o.message.Message, "ours.crt")
			assert.NoFileExists(t, out)
		})
	}
}
