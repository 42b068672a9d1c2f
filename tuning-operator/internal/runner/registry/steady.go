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

// spentError is not retried: the retries were made, or another loop makes them.
type spentError struct{ error }

func (s *spentError) Unwrap() error { return s.error }

// steady reads a blob to its end and resumes interrupted connections. Layers of weights have gigabytes, and starting
// again would cost minutes of GPU time.
type steady struct {
	client *Client
	ctx    context.Context //nolint:containedctx // Read has no context argument
	repo   *remote.Repository
	layer  imagespec.Descriptor
	at     int64
	body   io.ReadCloser // nil: not open
	// whole is true if the registry sends blobs only from their beginning, so that the layer has to start again.
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
				return nil // the next read returns the error
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
		err = spent.error // Pull retries it and starts the layer again
	default:
		err = &spentError{err}
	}
	return n, err
}

// cut returns the error for an interrupted connection. It is not retried here if the registry sends no parts of blobs.
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
		return s.cut(fmt.Errorf("after %d of %d bytes: the registry does not send parts of blobs", s.at, s.layer.Size))
	}
	if s.at > 0 {
		if _, err := seeker.Seek(s.at, io.SeekStart); err != nil {
			_ = body.Close()
			return fmt.Errorf("resuming after %d of %d bytes: %w", s.at, s.layer.Size, err)
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
