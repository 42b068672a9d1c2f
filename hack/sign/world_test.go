// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/cosign/v3/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	password = "correct horse"
	bill     = `{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "gateway"}`
)

// world is a repository whose image "gateway" has been built and pushed to a registry in this process.
type world struct {
	root, images, registry string
	keyFile                string
	public                 signature.Verifier
}

// newWorld makes it; the registry lists referrers by OCI 1.1's API, or not: then they are found by a tag.
func newWorld(t *testing.T, referrers bool) *world {
	t.Helper()
	server := httptest.NewServer(
		registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0))),
	)
	t.Cleanup(server.Close)
	w := &world{root: t.TempDir(), images: t.TempDir(), registry: strings.TrimPrefix(server.URL, "http://") + "/kaito"}
	w.git(t, "init", "--quiet")
	w.git(t, "remote", "add", "origin", "https://user:secret@example.com/kaito.git")
	w.write(t, "README.md", "hello")
	w.git(t, "add", ".")
	w.git(t, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "first")
	w.keyFile, w.public = filepath.Join(t.TempDir(), "cosign.key"), ours().public
	require.NoError(t, os.WriteFile(w.keyFile, ours().private, 0o600))
	t.Setenv("COSIGN_PASSWORD", password)
	w.push(t)
	return w
}

// keyPair is a key pair of cosign's: the private half encrypted, as in its file.
type keyPair struct {
	private []byte
	public  signature.Verifier
}

func newKeyPair() keyPair {
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return []byte(password), nil })
	if err != nil {
		panic(err)
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(pair.PublicBytes)
	if err != nil {
		panic(err)
	}
	verifier, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		panic(err)
	}
	return keyPair{private: pair.PrivateBytes, public: verifier}
}

// The keys serve all tests: to encrypt one takes long on purpose.
var (
	ours   = sync.OnceValue(newKeyPair)
	theirs = sync.OnceValue(newKeyPair)
)

func (w *world) git(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", w.root}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func (w *world) write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(w.root, file), []byte(text), 0o600))
}

// push builds the image anew and pushes it as `make images` does. It returns the image by its digest.
func (w *world) push(t *testing.T) name.Digest {
	t.Helper()
	index, err := random.Index(16, 1, 2)
	require.NoError(t, err)
	tag, err := name.NewTag(w.registry+"/gateway:v1", name.Insecure)
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(tag, index))
	digest, err := index.Digest()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(w.images, "gateway.digest"), []byte(digest.String()+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(w.images, "gateway.spdx.json"), []byte(bill), 0o600))
	return tag.Digest(digest.String())
}

// image is the image that was pushed last.
func (w *world) image(t *testing.T) name.Digest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.images, "gateway.digest"))
	require.NoError(t, err)
	image, err := name.NewDigest(w.registry+"/gateway@"+strings.TrimSpace(string(text)), name.Insecure)
	require.NoError(t, err)
	return image
}

// sign runs the command and returns its exit code and what it printed.
func (w *world) sign(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	args = append(
		[]string{"--root", w.root, "--images", w.images, "--tag", "v1", "--platforms", "linux/amd64", "--plain-http"},
		args...)
	code := run(t.Context(), args, &out, &out)
	return code, out.String()
}

// byKey signs the image with the world's key.
func (w *world) byKey(t *testing.T) {
	t.Helper()
	code, out := w.sign(t, "--key", w.keyFile, "--no-log", "--registry", w.registry, "gateway")
	require.Zero(t, code, out)
	assert.Contains(t, out, "signed "+w.image(t).String())
}

// verify does what `cosign verify` and `cosign verify-attestation` do, and returns the predicates by type.
func verify(
	ctx context.Context, t *testing.T, image name.Reference, options *cosign.CheckOpts,
) (map[string]map[string]any, error) {
	t.Helper()
	options.NewBundleFormat, options.ClaimVerifier = true, cosign.IntotoSubjectClaimVerifier
	found, _, err := cosign.VerifyImageAttestations(ctx, image, options, name.Insecure)
	predicates := map[string]map[string]any{}
	for _, one := range found {
		envelope, err := one.Payload()
		require.NoError(t, err)
		var dsse struct{ Payload string }
		require.NoError(t, json.Unmarshal(envelope, &dsse))
		text, err := base64.StdEncoding.DecodeString(dsse.Payload)
		require.NoError(t, err)
		var statement struct {
			PredicateType string
			Predicate     map[string]any
		}
		require.NoError(t, json.Unmarshal(text, &statement))
		predicates[statement.PredicateType] = statement.Predicate
	}
	return predicates, err
}

// copyReferrers makes the statements about one image the statements about another, as one who can write to the registry
// can.
func copyReferrers(t *testing.T, from, to name.Digest) {
	t.Helper()
	tag := func(image name.Digest) name.Tag {
		return image.Context().Tag(strings.Replace(image.DigestStr(), ":", "-", 1))
	}
	index, err := remote.Index(tag(from))
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(tag(to), index))
}
