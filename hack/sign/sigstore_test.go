// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/stretchr/testify/require"
)

// sigstore is a certificate authority and a timestamp authority in this process, and what trusts them.
type sigstore struct {
	root.BaseTrustedMaterial
	fulcio    *root.FulcioCertificateAuthority
	fulcioKey *ecdsa.PrivateKey
	stamper   *root.SigstoreTimestampingAuthority
	stampKey  *ecdsa.PrivateKey
	tokens    []string
}

func (s *sigstore) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{s.fulcio}
}

func (s *sigstore) TimestampingAuthorities() []root.TimestampingAuthority {
	return []root.TimestampingAuthority{s.stamper}
}

func newAuthorities(t *testing.T) *sigstore {
	t.Helper()
	start, end := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	certificate, key, err := ca.GenerateRootCa()
	require.NoError(t, err)
	s := &sigstore{
		fulcio:  &root.FulcioCertificateAuthority{Root: certificate, ValidityPeriodStart: start, ValidityPeriodEnd: end},
		stamper: &root.SigstoreTimestampingAuthority{Root: certificate, ValidityPeriodStart: start, ValidityPeriodEnd: end},
	}
	intermediate, fulcioKey, err := ca.GenerateFulcioIntermediate(certificate, key)
	require.NoError(t, err)
	s.fulcio.Intermediates, s.fulcioKey = []*x509.Certificate{intermediate}, fulcioKey
	intermediate, intermediateKey, err := ca.GenerateTSAIntermediate(certificate, key)
	require.NoError(t, err)
	s.stamper.Intermediates = []*x509.Certificate{intermediate}
	s.stampKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s.stamper.Leaf, err = ca.GenerateTSALeafCert(time.Now().Add(-time.Minute), s.stampKey, intermediate, intermediateKey)
	require.NoError(t, err)
	return s
}

// newSigstore starts both and returns the file that --signing-config takes.
func newSigstore(t *testing.T) (*sigstore, string) {
	t.Helper()
	s := newAuthorities(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/signingCert", s.certify)
	mux.HandleFunc("POST /api/v1/timestamp", s.stamp)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	config := fmt.Sprintf(`{"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"caUrls": [{"url": %q, "majorApiVersion": 1, "validFor": {"start": "2024-01-01T00:00:00Z"}, "operator": "test"}],
		"tsaUrls": [{"url": %q, "majorApiVersion": 1, "validFor": {"start": "2024-01-01T00:00:00Z"}, "operator": "test"}],
		"tsaConfig": {"selector": "ANY"}, "rekorTlogConfig": {"selector": "ANY"}}`, server.URL, server.URL+"/api/v1/timestamp")
	file := filepath.Join(t.TempDir(), "signing-config.json")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	return s, file
}

// certify answers as Fulcio does: a short-lived certificate for the key in the request and the identity in the token.
func (s *sigstore) certify(w http.ResponseWriter, r *http.Request) {
	var request struct {
		PublicKeyRequest struct {
			PublicKey struct{ Content string }
		}
	}
	s.tokens = append(s.tokens, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(request.PublicKeyRequest.PublicKey.Content))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	parent := s.fulcio.Intermediates[0]
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:   big.NewInt(1),
		EmailAddresses: []string{identity},
		NotBefore:      time.Now().Add(-time.Minute),
		NotAfter:       time.Now().Add(10 * time.Minute),
		KeyUsage:       x509.KeyUsageDigitalSignature,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		// The issuer of the token: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}},
	}, parent, public, s.fulcioKey)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	chain := map[string]any{"chain": map[string]any{"certificates": []string{string(leaf)}}}
	_ = json.NewEncoder(w).Encode(map[string]any{"signedCertificateEmbeddedSct": chain}) // the client sees a broken answer
}

// stamp answers as a timestamp authority does (RFC 3161).
func (s *sigstore) stamp(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request, err := timestamp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	stamp := timestamp.Timestamp{
		HashAlgorithm: request.HashAlgorithm,
		HashedMessage: request.HashedMessage,
		Time:          time.Now(),
		Nonce:         request.Nonce,
		Policy: asn1.ObjectIdentifier{
			1,
			3,
			6,
			1,
			4,
			1,
			57264,
			2,
		},
		ExtraExtensions:   request.Extensions,
		AddTSACertificate: request.Certificates,
	}
	response, err := stamp.CreateResponseWithOpts(s.stamper.Leaf, s.stampKey, crypto.SHA256)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(response) // the client sees a broken answer
}
