// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"oras.land/oras-go/v2/errdef"
	ocireg "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/redact"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/netguard"
	"kaito.sh/tuning-operator/internal/runner/progress"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// Client is a client of OCI registries.
type Client struct {
	HTTP       *http.Client
	Credential auth.CredentialFunc
	Clock      clock.Clock
	Backoff    wait.Backoff
	Progress   *progress.Reporter
	// PlainHTTP uses http for a local mirror. It is never derived from the name.
	PlainHTTP bool
	// AllowLocal permits a token server on loopback or link-local addresses.
	AllowLocal bool
}

// NewHTTP returns an HTTP client for registries that obeys a policy.
func NewHTTP(p netguard.Policy) *http.Client {
	return &http.Client{Transport: p.Transport(), CheckRedirect: netguard.CheckRedirect}
}

// Credentials reads docker config files, which are mounted Secrets of the type kubernetes.io/dockerconfigjson. The
// first file with credentials for a registry has priority. Without any, access is anonymous. Credential helpers are not
// run, because users supply the files.
func Credentials(paths ...string) (auth.CredentialFunc, error) {
	var stores []credentials.Store
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			return nil, fault.Transient(tuningv1alpha1.ReasonCredentialsInvalid, "reading registry credentials: %w", err)
		}
		if !json.Valid(raw) {
			return nil, fault.Permanent(
				tuningv1alpha1.ReasonCredentialsInvalid,
				"registry credentials %s are not a docker config (JSON with \"auths\"); "+
					"create the secret with `kubectl create secret docker-registry`",
				p,
			)
		}
		store, err := credentials.NewMemoryStoreFromDockerConfig(raw)
		if err != nil {
			return nil, fault.Permanent(tuningv1alpha1.ReasonCredentialsInvalid, "registry credentials %s: %w", p, err)
		}
		stores = append(stores, store)
	}
	if len(stores) == 0 {
		return func(context.Context, string) (auth.Credential, error) { return auth.EmptyCredential, nil }, nil
	}
	return credentials.Credential(credentials.NewStoreWithFallbacks(stores[0], stores[1:]...)), nil
}

// Parse parses an image reference. It must name a registry: there is no default.
func Parse(ref string) (ocireg.Reference, error) {
	r, err := ocireg.ParseReference(ref)
	if err != nil {
		return ocireg.Reference{}, fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "image %q is not a valid reference: use registry/repository:tag: %w", ref, err,
		)
	}
	return r, nil
}

func (c *Client) repository(ref ocireg.Reference) (*remote.Repository, error) {
	repo, err := remote.NewRepository(ref.Registry + "/" + ref.Repository)
	if err != nil {
		return nil, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "image %s: %w", ref, err)
	}
	client := &auth.Client{Client: c.HTTP, Credential: c.Credential, Cache: auth.NewCache()}
	client.SetUserAgent("kaito-runner")
	if c.AllowLocal {
		client.BlockedRealmPrefixes = []netip.Prefix{}
	}
	repo.Client, repo.PlainHTTP = client, c.PlainHTTP
	return repo, nil
}

// sortError returns a Fault for a registry's answer. denied is the reason for refused credentials: it differs between
// pull and push. other is the reason for all other errors.
func sortError(err error, denied, other string) error {
	var f *fault.Fault
	if err == nil || errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	const remedy = "check that the Secret names this registry and has access to this repository"
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fault.Permanent(denied, "the registry requires credentials and there are none for it: %w; %s", err, remedy)
	case errors.Is(err, errdef.ErrNotFound):
		return fault.Permanent(tuningv1alpha1.ReasonSourceNotFound, "not in the registry: %w", err)
	}
	var res *errcode.ErrorResponse
	if !errors.As(err, &res) {
		return fault.Of(err, other)
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return fault.Permanent(denied, "the registry refused the credentials (%d): %w; %s", res.StatusCode, err, remedy)
	case res.StatusCode == http.StatusNotFound:
		return fault.Permanent(tuningv1alpha1.ReasonSourceNotFound, "not in the registry: %w", err)
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return fault.Transient(other, "the registry is unavailable: %w", err)
	}
	return fault.Permanent(other, "the registry refused the request: %w", err)
}

func (c *Client) retry(ctx context.Context, denied, other string, try func(context.Context) error) error {
	retriable := func(err error) bool {
		var done *spentError
		return !fault.Of(err, other).Permanent && !errors.As(err, &done)
	}
	return retry.Do(ctx, c.Clock, c.Backoff, retriable,
		func(ctx context.Context) (bool, error) {
			err := sortError(redact.Error(try(ctx)), denied, other)
			if err != nil && ctx.Err() == nil {
				c.Progress.Event("retry", err.Error(), nil)
			}
			return false, err
		})
}

// Reference returns the reference of an image by digest.
func Reference(ref ocireg.Reference, digest string) string {
	return fmt.Sprintf("%s/%s@%s", ref.Registry, ref.Repository, digest)
}
