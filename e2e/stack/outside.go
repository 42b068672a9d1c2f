package stack

import (
	"context"
	"errors"
	"path/filepath"

	"kaito.sh/e2e/authority"
	"kaito.sh/e2e/sources"
)

// outside is where models and data come from and adapters go to: servers over TLS on loopback, in this process.
type outside struct {
	hub, registry *sources.Server
	// authorities is a folder with the certificate that clients must trust.
	authorities string
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
	o := &outside{authorities: filepath.Join(dir, authority.File)}
	if o.hub, err = sources.Serve(ctx, "127.0.0.1:0", certificate, sources.NewHub("")); err != nil {
		return nil, err
	}
	if o.registry, err = sources.Serve(ctx, "127.0.0.1:0", certificate, sources.NewRegistry(sources.Login{})); err != nil {
		return nil, errors.Join(err, o.hub.Stop())
	}
	return o, nil
}

func (o *outside) stop() error { return errors.Join(o.hub.Stop(), o.registry.Stop()) }
