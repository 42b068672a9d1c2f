// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/cosign/v3/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func trusting(public signature.Verifier) *cosign.CheckOpts {
	return &cosign.CheckOpts{SigVerifier: public, IgnoreTlog: true, IgnoreSCT: true, Offline: true}
}

func TestCosignVerifiesASignedImage(t *testing.T) {
	for title, referrers := range map[string]bool{"by the referrers API": true, "by the referrers tag": false} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t, referrers)
			_, err := verify(t.Context(), t, w.image(t), trusting(w.public))
			require.Error(t, err, "the image is not signed yet")
			w.byKey(t)
			tag, err := name.NewTag(w.registry+"/gateway:v1", name.Insecure)
			require.NoError(t, err)
			for _, image := range []name.Reference{w.image(t), tag} {
				predicates, err := verify(t.Context(), t, image, trusting(w.public))
				require.NoError(t, err)
				assert.Len(t, predicates, 3)
				assert.Contains(t, predicates, typeSignature)
				assert.Equal(t, "gateway", predicates[typeBill]["name"], "the SBOM is attached")
			}
		})
	}
}

func TestProvenanceNamesTheCommitAndNoSecret(t *testing.T) {
	w := newWorld(t, true)
	w.byKey(t)
	predicates, err := verify(t.Context(), t, w.image(t), trusting(w.public))
	require.NoError(t, err)
	commit, err := git(t.Context(), w.root, "rev-parse", "HEAD")
	require.NoError(t, err)
	definition, ok := predicates[typeProvenance]["buildDefinition"].(map[string]any)
	require.True(t, ok)
	assert.Equal(t, buildType, definition["buildType"])
	assert.Equal(
		t,
		map[string]any{
			"image":      "gateway",
			"platforms":  "linux/amd64",
			"repository": "https://example.com/kaito.git",
			"tag":        "v1",
		},
		definition["externalParameters"],
	)
	dependencies, ok := definition["resolvedDependencies"].([]any)
	require.True(t, ok)
	assert.Contains(t, dependencies, map[string]any{
		"name":   "sources",
		"uri":    "git+https://example.com/kaito.git@" + commit,
		"digest": map[string]any{"gitCommit": commit},
	})
	assert.Equal(
		t,
		map[string]any{"builder": map[string]any{"id": "https://kaito.sh/builders/make-release"}},
		predicates[typeProvenance]["runDetails"],
	)
}

func TestAnotherKeyDoesNotVerify(t *testing.T) {
	w := newWorld(t, true)
	w.byKey(t)
	_, err := verify(t.Context(), t, w.image(t), trusting(theirs().public))
	assert.ErrorContains(t, err, "no matching attestations")
}

func TestAChangedImageDoesNotVerify(t *testing.T) {
	w := newWorld(t, true)
	w.byKey(t)
	signed := w.image(t)
	changed := w.push(t)
	require.NotEqual(t, signed, changed)
	tag, err := name.NewTag(w.registry+"/gateway:v1", name.Insecure)
	require.NoError(t, err)
	for _, image := range []name.Reference{changed, tag} {
		_, err := verify(t.Context(), t, image, trusting(w.public))
		assert.Error(t, err, image)
	}
	_, err = verify(t.Context(), t, signed, trusting(w.public))
	assert.NoError(t, err, "the image that was signed still verifies")
}

// Guards against a signature that an attacker copies from one image to another in the registry.
func TestACopiedSignatureDoesNotVerify(t *testing.T) {
	w := newWorld(t, false)
	w.byKey(t)
	signed := w.image(t)
	changed := w.push(t)
	copyReferrers(t, signed, changed)
	_, err := verify(t.Context(), t, changed, trusting(w.public))
	assert.ErrorContains(t, err, "no matching attestations")
	assert.ErrorContains(t, err, "digest")
}

func TestAnExternalImageGetsNoProvenance(t *testing.T) {
	w := newWorld(t, true)
	code, out := w.sign(
		t, "--key", w.keyFile, "--no-log", "--external", w.registry+"/gateway:v1", "--bill",
		filepath.Join(w.images, "gateway.spdx.json"),
	)
	require.Zero(t, code, out)
	predicates, err := verify(t.Context(), t, w.image(t), trusting(w.public))
	require.NoError(t, err)
	assert.Len(t, predicates, 2)
	assert.NotContains(t, predicates, typeProvenance)
}

func TestWhatCannotBeSignedIsNamed(t *testing.T) {
	w := newWorld(t, true)
	key := []string{"--key", w.keyFile, "--no-log", "--registry", w.registry}
	with := func(args ...string) []string { return append(append([]string{}, key...), args...) }
	for title, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no key":             {[]string{"--registry", w.registry, "gateway"}, 2, "--key FILE and --keyless"},
		"both":               {with("--keyless", "gateway"), 2, "--key FILE and --keyless"},
		"no registry":        {[]string{"--key", w.keyFile, "gateway"}, 2, "--registry is empty"},
		"no image":           {key, 2, "no image is named"},
		"an unknown image":   {with("runner"), 1, "run `make images PUSH=" + w.registry + "` first"},
		"no token":           {[]string{"--keyless", "--signing-config", emptyConfig(t), "--registry", w.registry, "gateway"}, 1, "--keyless needs an identity token"},
		"keyless and no log": {[]string{"--keyless", "--no-log", "--registry", w.registry, "gateway"}, 2, "--no-log goes with --key"},
	} {
		t.Run(title, func(t *testing.T) {
			code, out := w.sign(t, test.args...)
			assert.Equal(t, test.code, code)
			assert.Contains(t, out, test.want)
		})
	}
	t.Setenv("COSIGN_PASSWORD", "wrong")
	code, out := w.sign(t, with("gateway")...)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "with the password in COSIGN_PASSWORD")
}

func TestADirtyWorkTreeIsNotSigned(t *testing.T) {
	w := newWorld(t, true)
	w.write(t, "README.md", "changed")
	code, out := w.sign(t, "--key", w.keyFile, "--no-log", "--registry", w.registry, "gateway")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "has changes that no commit holds")
	code, out = w.sign(t, "--key", w.keyFile, "--no-log", "--registry", w.registry, "--allow-dirty", "gateway")
	assert.Zero(t, code, out)
}

func emptyConfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	text := strings.ReplaceAll(
		`{"mediaType": "MEDIA", "rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"}}`,
		"MEDIA",
		"application/vnd.dev.sigstore.signingconfig.v0.2+json",
	)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
