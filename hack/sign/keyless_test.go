// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/sigstore/cosign/v3/pkg/cosign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	identity = "release@example.com"
	issuer   = "https://issuer.example.com"
)

func token(t *testing.T) string {
	t.Helper()
	encode := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return encode(map[string]string{"alg": "none"}) + "." +
		encode(
			map[string]any{
				"iss":            issuer,
				"aud":            audience,
				"sub":            identity,
				"email":          identity,
				"email_verified": true,
				"exp":            time.Now().Add(time.Hour).Unix(),
			},
		) + ".x"
}

func TestKeylessSignsForTheIdentityInTheToken(t *testing.T) {
	w := newWorld(t, true)
	s, config := newSigstore(t)
	want := token(t)
	t.Setenv("SIGSTORE_ID_TOKEN", want)
	code, out := w.sign(t, "--keyless", "--signing-config", config, "--registry", w.registry, "gateway")
	require.Zero(t, code, out)
	assert.Equal(t, []string{want}, s.tokens, "one certificate serves all statements")

	options := func(subject string) *cosign.CheckOpts {
		return &cosign.CheckOpts{
			TrustedMaterial: s, Identities: []cosign.Identity{{Subject: subject, Issuer: issuer}},
			IgnoreTlog: true, IgnoreSCT: true, UseSignedTimestamps: true, Offline: true,
		}
	}
	predicates, err := verify(t.Context(), t, w.image(t), options(identity))
	require.NoError(t, err)
	assert.Len(t, predicates, 3)
	_, err = verify(t.Context(), t, w.image(t), options("attacker@example.com"))
	assert.ErrorContains(t, err, "no matching attestations")
}
