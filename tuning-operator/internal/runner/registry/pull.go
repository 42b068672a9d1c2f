// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/disk"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// ImageDataRoot is the folder with the files of KAITO's dataset, adapter and model images.
const ImageDataRoot = "data"

// Pulled is an image or artifact on disk.
type Pulled struct {
	// Digest is the digest of the manifest. For an index it is that of one platform.
	Digest string
	// Files are the paths of the files in the folder.
	Files map[string]int64
	// Annotations are those of the manifest.
	Annotations map[string]string
}

// maxManifestBytes is the limit that the distribution specification recommends for registries.
const maxManifestBytes = 4 << 20

// Pull writes the files of an image (below /data) or of an artifact (each titled layer) to a folder. The budget limits
// the unpacked bytes; nil means unlimited. The files get their names when the image is complete and its digests are
// correct. After an interruption Pull fetches only the incomplete layers, and nothing if the image is complete.
func (c *Client) Pull(ctx context.Context, ref, into string, budget *disk.Budget) (Pulled, error) {
	repo, reference, err := c.named(ref)
	if err != nil {
		return Pulled{}, err
	}
	var out Pulled
	err = c.retry(
		ctx,
		tuningv1alpha1.ReasonSourceDenied,
		tuningv1alpha1.ReasonSourceUnavailable,
		func(ctx context.Context) error {
			manifest, desc, err := c.manifest(ctx, repo, reference)
			if err != nil {
				return err
			}
			in, err := openIncoming(into, desc.Digest.String(), budget)
			if err != nil {
				return err
			}
			if err := c.layers(ctx, repo, manifest.Layers, in); err != nil {
				in.release()
				return err
			}
			out = Pulled{Digest: desc.Digest.String(), Files: in.doc.Files, Annotations: manifest.Annotations}
			return in.finish()
		},
	)
	if err != nil {
		return Pulled{}, fmt.Errorf("pulling %s: %w", ref, err)
	}
	if len(out.Files) == 0 {
		return Pulled{}, fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "image %s has no files below /%s", ref, ImageDataRoot,
		)
	}
	return out, nil
}

// Resolved describes the image of a reference.
type Resolved struct {
	Digest string
	// Size is the size of the config and the layers in bytes.
	Size        int64
	Annotations map[string]string
}

// Resolve returns the image that a reference currently points to. It fetches only the manifest.
func (c *Client) Resolve(ctx context.Context, ref string) (Resolved, error) {
	repo, reference, err := c.named(ref)
	if err != nil {
		return Resolved{}, err
	}
	var out Resolved
	err = c.retry(
		ctx,
		tuningv1alpha1.ReasonSourceDenied,
		tuningv1alpha1.ReasonSourceUnavailable,
		func(ctx context.Context) error {
			manifest, desc, err := c.manifest(ctx, repo, reference)
			if err != nil {
				return err
			}
			out = Resolved{Digest: desc.Digest.String(), Size: manifest.Config.Size, Annotations: manifest.Annotations}
			for _, l := range manifest.Layers {
				out.Size += l.Size
			}
			return nil
		},
	)
	if err != nil {
		return Resolved{}, fmt.Errorf("resolving %s: %w", ref, err)
	}
	return out, nil
}

// named returns the repository of a reference, and its tag or digest.
func (c *Client) named(ref string) (*remote.Repository, string, error) {
	parsed, err := Parse(ref)
	if err != nil {
		return nil, "", err
	}
	if parsed.Reference == "" {
		return nil, "", fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "image %q has neither tag nor digest", ref)
	}
	repo, err := c.repository(parsed)
	return repo, parsed.Reference, err
}

func (c *Client) manifest(
	ctx context.Context, repo *remote.Repository, ref string,
) (imagespec.Manifest, imagespec.Descriptor, error) {
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return imagespec.Manifest{}, imagespec.Descriptor{}, err
	}
	for depth := 0; ; depth++ {
		if desc.Size > maxManifestBytes || depth > 2 {
			return imagespec.Manifest{}, desc, fault.Permanent(
				tuningv1alpha1.ReasonSourceInvalid, "manifest %s is too large or too deeply nested", desc.Digest,
			)
		}
		raw, err := content.FetchAll(ctx, repo, desc)
		if err != nil {
			return imagespec.Manifest{}, desc, err
		}
		var doc struct {
			imagespec.Manifest
			Manifests []imagespec.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(raw, &doc); err != nil {
			return imagespec.Manifest{}, desc, fault.Permanent(
				tuningv1alpha1.ReasonSourceInvalid, "manifest %s: %w", desc.Digest, err,
			)
		}
		if len(doc.Manifests) == 0 {
			return doc.Manifest, desc, nil
		}
		desc, err = platform(doc.Manifests)
		if err != nil {
			return imagespec.Manifest{}, desc, err
		}
	}
}

// platform returns the linux/amd64 entry of an index (the architecture of GPU sizes), or its only entry.
func platform(of []imagespec.Descriptor) (imagespec.Descriptor, error) {
	for _, d := range of {
		if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == "amd64" {
			return d, nil
		}
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return imagespec.Descriptor{}, fault.Permanent(
		tuningv1alpha1.ReasonSourceInvalid, "the image has no linux/amd64 variant",
	)
}

// layers fetches the missing layers. Archives are unpacked in order, because each changes the result of those before
// it. Consecutive single files are fetched concurrently.
func (c *Client) layers(
	ctx context.Context, repo *remote.Repository, layers []imagespec.Descriptor, in *incoming,
) error {
	for first := 0; first < len(layers); {
		end := first + 1
		for !isArchive(layers[first]) && end < len(layers) && !isArchive(layers[end]) {
			end++
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallelLayers)
		for n := first; n < end; n++ {
			if !in.has(n) {
				g.Go(func() error { return c.layer(ctx, repo, n, layers[n], in) })
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
		first = end
	}
	return nil
}

func (c *Client) layer(
	ctx context.Context, repo *remote.Repository, n int, layer imagespec.Descriptor, in *incoming,
) error {
	c.Progress.Event("layer", "pulling", map[string]any{"digest": layer.Digest.String(), "bytes": layer.Size})
	blob := &steady{client: c, ctx: ctx, repo: repo, layer: layer}
	defer func() { _ = blob.Close() }()
	c.Progress.Expect(layer.Size)
	verified := content.NewVerifyReader(blob, layer)
	u := newUnpacker(in, layer)
	err := u.layer(verified, layer)
	if err == nil {
		// The digest includes bytes after the end mark of the tar.
		_, err = io.Copy(io.Discard, verified)
	}
	if err == nil {
		if err = verified.Verify(); err != nil {
			err = fault.Transient(tuningv1alpha1.ReasonChecksumMismatch, "%w", err)
		}
	}
	if err != nil {
		c.Progress.Expect(-layer.Size)
		c.Progress.Advance(layer.Digest.String(), -blob.at)
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	return in.done(n, u)
}
