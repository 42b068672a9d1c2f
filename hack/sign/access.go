// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sigstore/cosign/v3/pkg/cosign"
	cosignbundle "github.com/sigstore/cosign/v3/pkg/cosign/bundle"
	"github.com/sigstore/cosign/v3/pkg/providers"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"

	// Where a CI leaves an identity token. The other providers of cosign need a cloud's whole SDK: their token goes into a
	// file.
	_ "github.com/sigstore/cosign/v3/pkg/providers/envvar"
	_ "github.com/sigstore/cosign/v3/pkg/providers/filesystem"
	_ "github.com/sigstore/cosign/v3/pkg/providers/github"
)

// access is what a user signs with.
type access struct {
	key, token, configFile string
	keyless, noLog         bool
	timeout                time.Duration
}

// audience of a token that Fulcio takes (https://docs.sigstore.dev/certificate_authority/oidc-in-fulcio).
const audience = "sigstore"

// signer signs statements. The certificate of a keyless one is asked for once.
type signer struct {
	keypair sign.Keypair
	token   string
	config  *root.SigningConfig
	options cosignbundle.SignOptions
}

// signer reads the key or the token, and the addresses of the services.
func (a access) signer(ctx context.Context) (*signer, error) {
	s := &signer{}
	var err error
	if s.config, err = a.config(); err != nil {
		return nil, err
	}
	if !a.keyless {
		s.keypair, err = readKey(a.key)
		return s, err
	}
	if s.keypair, err = sign.NewEphemeralKeypair(nil); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if s.token, err = a.identity(ctx); err != nil {
		return nil, err
	}
	s.options.CertificateProvider, err = cosignbundle.NewCachingFulcioProvider(s.config)
	return s, err
}

// config returns the services to use: none, those of --signing-config, or Sigstore's public ones, which its TUF
// repository names.
func (a access) config() (*root.SigningConfig, error) {
	switch {
	case a.noLog:
		return root.NewSigningConfig(
			root.SigningConfigMediaType02, nil, nil, nil, root.ServiceConfiguration{}, nil, root.ServiceConfiguration{},
		)
	case a.configFile != "":
		config, err := root.NewSigningConfigFromPath(a.configFile)
		if err != nil {
			return nil, fmt.Errorf("reading --signing-config %s: %w", a.configFile, err)
		}
		return config, nil
	}
	config, err := cosign.SigningConfig()
	if err != nil {
		return nil, fmt.Errorf(
			"asking which services of Sigstore to use (--no-log with a key needs none, --signing-config names others): %w", err,
		)
	}
	return config, nil
}

// identity returns the token of --identity-token, itself or in a file, or the one that the CI gives.
func (a access) identity(ctx context.Context) (string, error) {
	if a.token != "" {
		if content, err := os.ReadFile(a.token); err == nil {
			return strings.TrimSpace(string(content)), nil
		}
		return a.token, nil
	}
	if !providers.Enabled(ctx) {
		return "", errors.New(
			"--keyless needs an identity token: set SIGSTORE_ID_TOKEN or --identity-token, or run where the CI gives one",
		)
	}
	token, err := providers.Provide(ctx, audience)
	if err != nil {
		return "", fmt.Errorf("asking the CI for an identity token: %w", err)
	}
	return token, nil
}
