package registry

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	orasfile "oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/registry/remote"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// ImageDataRoot is where KAITO's dataset, adapter and model images keep their files.
const ImageDataRoot = "data"

// Pulled is one image or artifact on disk.
type Pulled struct {
	// Digest of the manifest that was taken (of one platform, where the reference is an index).
	Digest string
	// Files by path below the folder.
	Files map[string]int64
	// Annotations of the manifest.
	Annotations map[string]string
}

// maxManifestBytes follows the distribution specification's advice for a registry's limit.
const maxManifestBytes = 4 << 20

// Pull brings the files of an image (below /data) or of an artifact (each titled layer) into a folder; maxBytes bounds
// what is unpacked, 0 is no bound.
func (c *Client) Pull(ctx context.Context, ref, into string, maxBytes int64) (Pulled, error) {
	parsed, err := Parse(ref)
	if err != nil {
		return Pulled{}, err
	}
	if parsed.Reference == "" {
		return Pulled{}, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "image %q has neither tag nor digest", ref)
	}
	repo, err := c.repository(parsed)
	if err != nil {
		return Pulled{}, err
	}
	var out Pulled
	err = c.retry(ctx, tuningv1alpha1.ReasonSourceDenied, tuningv1alpha1.ReasonSourceUnavailable, func(ctx context.Context) error {
		manifest, desc, err := c.manifest(ctx, repo, parsed.Reference)
		if err != nil {
			return err
		}
		out = Pulled{Digest: desc.Digest.String(), Files: map[string]int64{}, Annotations: manifest.Annotations}
		u := unpacker{into: into, left: maxBytes, bounded: maxBytes > 0, files: out.Files}
		for _, layer := range manifest.Layers {
			c.Progress.Event("layer", "pulling", map[string]any{"digest": layer.Digest.String(), "bytes": layer.Size})
			if err := c.layer(ctx, repo, layer, &u); err != nil {
				return fmt.Errorf("layer %s: %w", layer.Digest, err)
			}
		}
		return nil
	})
	if err != nil {
		return Pulled{}, fmt.Errorf("pulling %s: %w", ref, err)
	}
	if len(out.Files) == 0 {
		return Pulled{}, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "image %s has no files below /%s", ref, ImageDataRoot)
	}
	return out, nil
}

func (c *Client) manifest(ctx context.Context, repo *remote.Repository, ref string) (imagespec.Manifest, imagespec.Descriptor, error) {
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return imagespec.Manifest{}, imagespec.Descriptor{}, err
	}
	for depth := 0; ; depth++ {
		if desc.Size > maxManifestBytes || depth > 2 {
			return imagespec.Manifest{}, desc, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "manifest %s is too large or too deeply nested", desc.Digest)
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
			return imagespec.Manifest{}, desc, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "manifest %s: %w", desc.Digest, err)
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

// platform picks linux/amd64 (the GPU sizes' architecture) of an index, or its only entry.
func platform(of []imagespec.Descriptor) (imagespec.Descriptor, error) {
	for _, d := range of {
		if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == "amd64" {
			return d, nil
		}
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return imagespec.Descriptor{}, fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "the image has no linux/amd64 variant")
}

func (c *Client) layer(ctx context.Context, repo *remote.Repository, layer imagespec.Descriptor, u *unpacker) error {
	rc, err := repo.Fetch(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	c.Progress.Expect(layer.Size)
	verified := content.NewVerifyReader(&counted{rc, func(n int) { c.Progress.Advance(layer.Digest.String(), int64(n)) }}, layer)
	if err := u.layer(verified, layer); err != nil {
		return err
	}
	// What follows a tar's end mark counts for the digest too.
	if _, err := io.Copy(io.Discard, verified); err != nil {
		return err
	}
	if err := verified.Verify(); err != nil {
		return fault.Transient(tuningv1alpha1.ReasonChecksumMismatch, "%s: %w", layer.Digest, err)
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

// unpacker writes the files of layers below one folder and nowhere else: no links, no devices, no climbing names.
type unpacker struct {
	into    string
	left    int64
	bounded bool
	files   map[string]int64
	fresh   map[string]bool // files of the layer in hand
	folder  string          // the layer in hand is this folder of an artifact, packed by oras
}

func (u *unpacker) layer(r io.Reader, layer imagespec.Descriptor) error {
	u.fresh = map[string]bool{}
	u.folder = ""
	if layer.Annotations[orasfile.AnnotationUnpack] == "true" {
		u.folder = layer.Annotations[imagespec.AnnotationTitle]
	}
	switch {
	case strings.HasSuffix(layer.MediaType, "+gzip"), strings.HasSuffix(layer.MediaType, ".gzip"):
		gz, err := gzip.NewReader(r)
		if err != nil {
			return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "not gzip: %w", err)
		}
		defer func() { _ = gz.Close() }()
		return u.tar(gz)
	case strings.HasSuffix(layer.MediaType, "+zstd"):
		// 128 MiB is the window that the zstd format's decoders are asked to support; more is refused.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "not zstd: %w", err)
		}
		defer z.Close()
		return u.tar(z)
	case strings.HasSuffix(layer.MediaType, ".tar"):
		return u.tar(r)
	}
	// A layer that is a file: an artifact pushed by oras or by ModelPack's tools.
	name := layer.Annotations[imagespec.AnnotationTitle]
	if name == "" {
		name = layer.Annotations[annotationFilepath]
	}
	if name == "" {
		return nil
	}
	return u.file(name, layer.Size, r)
}

func (u *unpacker) tar(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the layer: %w", err)
		}
		name, ok := below(ImageDataRoot, h.Name)
		if u.folder != "" {
			name, ok = below(u.folder, h.Name) // the folder that was pushed is the one that is asked for
		}
		if !ok {
			continue
		}
		base := path.Base(name)
		switch {
		case strings.HasPrefix(base, ".wh."):
			if err := u.whiteout(path.Dir(name), strings.TrimPrefix(base, ".wh.")); err != nil {
				return err
			}
		case h.Typeflag == tar.TypeReg:
			if err := u.file(name, h.Size, tr); err != nil {
				return err
			}
		}
	}
}

// below maps an entry of a layer to its path in a folder of it; false: it is not there.
func below(folder, name string) (string, bool) {
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	rel, ok := strings.CutPrefix(clean, strings.TrimPrefix(path.Clean("/"+folder), "/")+"/")
	return rel, ok && rel != ""
}

func (u *unpacker) file(name string, size int64, r io.Reader) error {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "the image has the file %q, which points out of its folder", name)
	}
	if u.bounded {
		if size > u.left {
			return fault.Permanent(tuningv1alpha1.ReasonSourceTooLarge, "%s needs %d bytes, %d are left of --max-bytes; raise it together with the volume's size", name, size, u.left)
		}
		u.left -= size
	}
	dest := filepath.Join(u.into, local)
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil { // read by the trainer under another user
		return fmt.Errorf("creating the folder of %s: %w", name, err)
	}
	out, err := os.Create(dest)
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	n, err := io.Copy(out, io.LimitReader(r, size))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if n != size {
		return fault.Transient(tuningv1alpha1.ReasonSourceUnavailable, "%s ended after %d of %d bytes", name, n, size)
	}
	u.files[name], u.fresh[name] = size, true
	return nil
}

// whiteout takes back what a lower layer brought: one entry, or with the opaque marker everything beside it.
func (u *unpacker) whiteout(dir, base string) error {
	if base == ".wh..opq" { // with its prefix, the image specification's opaque marker
		base = ""
	}
	victim := path.Join(dir, base)
	if base == ".." || !filepath.IsLocal(filepath.FromSlash(victim)) {
		return nil
	}
	for name := range u.files {
		if u.fresh[name] { // a marker hides what lower layers brought, not its own layer's files
			continue
		}
		if name == victim || victim == "." || strings.HasPrefix(name, victim+"/") {
			if err := os.Remove(filepath.Join(u.into, filepath.FromSlash(name))); err != nil {
				return fmt.Errorf("removing %s: %w", name, err)
			}
			delete(u.files, name)
		}
	}
	return nil
}
