// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/pack"
)

const annotationFilepath = pack.AnnotationFilepath

// parallelLayers is the number of layers that are pushed concurrently. Registries usually accept as many transfers of
// one client, and a single one is often slower than the network.
const parallelLayers = 4

// CheckReference returns an error for a reference that cannot be pushed to.
func CheckReference(ref string) error {
	parsed, err := Parse(ref)
	if err != nil {
		return fault.Permanent(tuningv1alpha1.ReasonOutputInvalid, "output %w", err)
	}
	if parsed.Reference == "" || parsed.ValidateReferenceAsDigest() == nil {
		return fault.Permanent(
			tuningv1alpha1.ReasonOutputInvalid,
			"output image %q must end with a tag (registry/repository:tag): the push returns the digest", ref,
		)
	}
	return nil
}

// CheckPush starts an upload and cancels it. Missing permissions for the push are thus known before hours of GPU time
// are spent.
func (c *Client) CheckPush(ctx context.Context, ref string) error {
	if err := CheckReference(ref); err != nil {
		return err
	}
	parsed, err := Parse(ref)
	if err != nil {
		return err
	}
	repo, err := c.repository(parsed)
	if err != nil {
		return err
	}
	err = c.retry(
		ctx,
		tuningv1alpha1.ReasonOutputDenied,
		tuningv1alpha1.ReasonPushFailed,
		func(ctx context.Context) error {
			return c.openUpload(auth.AppendRepositoryScope(ctx, parsed, auth.ActionPull, auth.ActionPush), repo)
		},
	)
	if err != nil {
		return fmt.Errorf("checking whether %s may be pushed: %w", ref, err)
	}
	return nil
}

// openUpload sends POST /v2/<name>/blobs/uploads/ of the distribution specification, and cancels the upload.
func (c *Client) openUpload(ctx context.Context, repo *remote.Repository) error {
	scheme := "https"
	if c.PlainHTTP {
		scheme = "http"
	}
	base := &url.URL{
		Scheme: scheme,
		Host:   repo.Reference.Host(),
		Path:   "/v2/" + repo.Reference.Repository + "/blobs/uploads/",
	}
	status, location, err := c.send(ctx, repo, http.MethodPost, base)
	if err != nil {
		return err
	}
	if status != http.StatusAccepted {
		return &errcode.ErrorResponse{Method: http.MethodPost, URL: base, StatusCode: status}
	}
	if upload, err := base.Parse(location); err == nil && upload.Host == base.Host {
		// Registries also delete unused uploads after a time.
		_, _, _ = c.send(ctx, repo, http.MethodDelete, upload)
	}
	return nil
}

func (c *Client) send(
	ctx context.Context, repo *remote.Repository, method string, to *url.URL,
) (status int, location string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, to.String(), nil)
	if err != nil {
		return 0, "", fmt.Errorf("requesting an upload: %w", err)
	}
	res, err := repo.Client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }() // errors of reading do not matter
	return res.StatusCode, res.Header.Get("Location"), nil
}

// Push uploads the image, tags it, and returns the digest of the manifest. Layers that the registry already has are not
// sent again, so that a repeated push needs only a few requests.
func (c *Client) Push(ctx context.Context, ref string, img *pack.Image) (string, error) {
	if err := CheckReference(ref); err != nil {
		return "", err
	}
	parsed, err := Parse(ref)
	if err != nil {
		return "", err
	}
	repo, err := c.repository(parsed)
	if err != nil {
		return "", err
	}
	err = c.retry(
		ctx,
		tuningv1alpha1.ReasonOutputDenied,
		tuningv1alpha1.ReasonPushFailed,
		func(ctx context.Context) error {
			return c.pushOnce(ctx, repo, parsed.Reference, img)
		},
	)
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", ref, err)
	}
	return img.Descriptor().Digest.String(), nil
}

func (c *Client) pushOnce(ctx context.Context, repo *remote.Repository, tag string, img *pack.Image) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLayers)
	for _, l := range img.Layers {
		g.Go(func() error { return c.pushLayer(gctx, repo, l) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := pushBytes(ctx, repo, img.ConfigDescriptor(), img.Config); err != nil {
		return err
	}
	return repo.PushReference(ctx, img.Descriptor(), bytes.NewReader(img.Manifest), tag)
}

func (c *Client) pushLayer(ctx context.Context, repo *remote.Repository, l pack.Layer) error {
	there, err := repo.Blobs().Exists(ctx, l.Descriptor)
	if err != nil {
		return err
	}
	c.Progress.Expect(l.Descriptor.Size)
	if there {
		c.Progress.Advance(l.Descriptor.Digest.String(), l.Descriptor.Size)
		return nil
	}
	body := l.Open()
	defer func() { _ = body.Close() }()
	var sent atomic.Int64 // the transport reads in another goroutine, which may run on shortly after a failed request
	count := func(n int) {
		sent.Add(int64(n))
		c.Progress.Advance(l.Descriptor.Digest.String(), int64(n))
	}
	err = repo.Blobs().Push(ctx, l.Descriptor, &counted{body, count})
	if err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		c.Progress.Advance(l.Descriptor.Digest.String(), -sent.Load())
		c.Progress.Expect(-l.Descriptor.Size)
		return fmt.Errorf("layer %s: %w", l.Descriptor.Digest, err)
	}
	return nil
}

type counted struct {
	io.Reader
	count func(int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.count(n)
	return n, err
}

func pushBytes(ctx context.Context, repo *remote.Repository, desc imagespec.Descriptor, raw []byte) error {
	err := repo.Blobs().Push(ctx, desc, bytes.NewReader(raw))
	if err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		return fmt.Errorf("config %s: %w", desc.Digest, err)
	}
	return nil
}
