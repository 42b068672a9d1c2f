// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kaito.sh/e2e/authority"
	"kaito.sh/e2e/sources"
)

// outside is where models and data come from and adapters go to: servers over TLS on loopback, in this process.
type outside struct {
	hub, registry *sources.Server
	files         *sources.Hub
	// authorities is the file of what clients must trust, trusted its content.
	authorities string
	trusted     []byte
}

func startOutside(ctx context.Context, dir string) (_ *outside, err error) {
	ours, err := authority.Open(dir)
	if err != nil {
		return nil, err
	}
	certificate, err := ours.Server(nil)
	if err != nil {
		return nil, err
	}
	o := &outside{authorities: filepath.Join(dir, authority.File), files: sources.NewHub("")}
	if o.trusted, err = os.ReadFile(o.authorities); err != nil {
		return nil, fmt.Errorf("reading the authority: %w", err)
	}
	if o.hub, err = sources.Serve(ctx, "127.0.0.1:0", certificate, o.files); err != nil {
		return nil, err
	}
	if o.registry, err = sources.Serve(ctx, "127.0.0.1:0", certificate, sources.NewRegistry(sources.Login{})); err != nil {
		return nil, errors.Join(err, o.hub.Stop())
	}
	return o, nil
}

// Fetched is how often a file of the hub was asked for, by its path.
func (s *Stack) Fetched(path string) int { return s.outside.files.Taken(path) }

// Authorities are the certificates (PEM) that clients of the hub and of the registry must trust.
func (s *Stack) Authorities() []byte { return s.outside.trusted }

func (o *outside) stop() error { return errors.Join(o.hub.Stop(), o.registry.Stop()) }
