// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"

	"github.com/sigstore/cosign/v3/pkg/cosign"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// key is a key pair of cosign's in the form that sigstore-go signs with: ECDSA on P-256, which `cosign
// generate-key-pair` makes.
type key struct {
	signature.SignerVerifier
	public *ecdsa.PublicKey
	hint   []byte
}

// readKey reads an encrypted private key; COSIGN_PASSWORD has its password.
func readKey(file string) (*key, error) {
	content, err := os.ReadFile(file) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, fmt.Errorf("reading --key: %w", err)
	}
	loaded, err := cosign.LoadPrivateKey(content, []byte(os.Getenv("COSIGN_PASSWORD")), nil)
	if err != nil {
		return nil, fmt.Errorf("reading --key %s with the password in COSIGN_PASSWORD: %w", file, err)
	}
	public, err := loaded.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("reading --key %s: %w", file, err)
	}
	point, ok := public.(*ecdsa.PublicKey)
	if !ok || point.Curve.Params().BitSize != 256 {
		return nil, fmt.Errorf("--key %s is not an ECDSA key on P-256: create one with `cosign generate-key-pair`", file)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("reading --key %s: %w", file, err)
	}
	sum := sha256.Sum256(der)
	return &key{SignerVerifier: loaded, public: point, hint: []byte(base64.StdEncoding.EncodeToString(sum[:]))}, nil
}

func (k *key) GetHashAlgorithm() protocommon.HashAlgorithm { return protocommon.HashAlgorithm_SHA2_256 }

func (k *key) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

// GetHint returns the fingerprint of the public key, by which a verifier may find it.
func (k *key) GetHint() []byte { return k.hint }

func (k *key) GetKeyAlgorithm() string { return "ECDSA" }

func (k *key) GetPublicKey() crypto.PublicKey { return k.public }

func (k *key) GetPublicKeyPem() (string, error) {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(k.public)
	return string(pem), err
}

// SignData returns the signature and the hash that was signed.
func (k *key) SignData(_ context.Context, data []byte) (sig, hash []byte, err error) {
	sum := sha256.Sum256(data)
	sig, err = k.SignMessage(bytes.NewReader(data))
	return sig, sum[:], err
}
