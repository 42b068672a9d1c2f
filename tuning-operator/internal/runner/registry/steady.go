// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// spentError tells the loop that sees it not to try again: that has been done, or is for another one to do.
type spentError struct{ error }

func (s *spentError) Unwrap() error { return s.error }

// steady reads a blob to its end over connections that are cut: layers of weights have gigabytes, and to begin again
// costs a GPU's minutes.
type steady struct {
	client *Client
	ctx    context.Context //nolint:containedctx // a Reader has no other way to be told
	repo   *remote.Repository
	layer  imagespec.Descriptor
	at     int64
	body   io.ReadCloser // nil: to be opened
	// whole: the registry sends blobs from their beginning only, so that the layer has to begin again.
	whole bool
}

func (s *steady) Read(p []byte) (int, error) {
	if s.at >= s.layer.Size {
		return 0, io.EOF
	}
	var n int
	err := s.client.retry(
		s.ctx,
		tuningv1alpha1.ReasonSourceDenied,
		tuningv1alpha1.ReasonSourceUnavailable,
		func(ctx context.Context) error {
			if s.body == nil {
				if err := s.open(ctx); err != nil {
					return err
				}
			}
			var err error
			n, err = s.body.Read(p[:min(int64(len(p)), s.layer.Size-s.at)])
			s.at += int64(n)
			s.client.Progress.Advance(s.layer.Digest.String(), int64(n))
			if n > 0 || err == nil {
				return nil // the error comes again with the next read
			}
			_ = s.body.Close()
			s.body = nil
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return s.cut(fmt.Errorf("after %d of %d bytes: %w", s.at, s.layer.Size, err))
		},
	)
	var spent *spentError
	switch {
	case err == nil:
	case errors.As(err, &spent):
		err = spent.error // not retried here, so that Pull does, and the layer begins again
	default:
		err = &spentError{err}
	}
	return n, err
}

// cut says how a connection ended. Where a registry sends no part of a blob there is nothing to retry here.
func (s *steady) cut(err error) error {
	if s.whole {
		return &spentError{err}
	}
	return err
}

func (s *steady) open(ctx context.Context) error {
	body, err := s.repo.Fetch(ctx, s.layer)
	if err != nil {
		return err
	}
	seeker, ok := body.(io.Seeker)
	s.whole = !ok
	if s.at > 0 && s.whole {
		_ = body.Close()
		return s.cut(fmt.Errorf("after %d of %d bytes: the registry sends no part of a blob", s.at, s.layer.Size))
	}
	if s.at > 0 {
		if _, err := seeker.Seek(s.at, io.SeekStart); err != nil {
			_ = body.Close()
			return fmt.Errorf("going on after %d of %d bytes: %w", s.at, s.layer.Size, err)
		}
	}
	s.body = body
	return nil
}

func (s *steady) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
