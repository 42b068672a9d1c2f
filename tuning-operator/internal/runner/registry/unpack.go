// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	orasfile "oras.land/oras-go/v2/content/file"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// unpacker writes the files of one layer below one folder and nowhere else: no links, no devices, no climbing names.
type unpacker struct {
	in     *incoming
	fresh  map[string]int64 // its files
	folder string           // the layer is this folder of an artifact, packed by oras
}

func newUnpacker(in *incoming, layer imagespec.Descriptor) *unpacker {
	u := &unpacker{in: in, fresh: map[string]int64{}}
	if layer.Annotations[orasfile.AnnotationUnpack] == "true" {
		u.folder = layer.Annotations[imagespec.AnnotationTitle]
	}
	return u
}

// isGzip and the like go by the ends of media types: those of OCI, of Docker and of ModelPack end alike.
func isGzip(layer imagespec.Descriptor) bool {
	return strings.HasSuffix(layer.MediaType, "+gzip") || strings.HasSuffix(layer.MediaType, ".gzip")
}

func isZstd(layer imagespec.Descriptor) bool { return strings.HasSuffix(layer.MediaType, "+zstd") }

func isTar(layer imagespec.Descriptor) bool { return strings.HasSuffix(layer.MediaType, ".tar") }

// isArchive says that a layer has many files; another one is one file.
func isArchive(layer imagespec.Descriptor) bool {
	return isGzip(layer) || isZstd(layer) || isTar(layer)
}

func (u *unpacker) layer(r io.Reader, layer imagespec.Descriptor) error {
	switch {
	case isGzip(layer):
		gz, err := gzip.NewReader(r)
		if err != nil {
			return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "not gzip: %w", err)
		}
		defer func() { _ = gz.Close() }()
		return u.tar(gz)
	case isZstd(layer):
		// 128 MiB is the window that the zstd format's decoders are asked to support; more is refused.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "not zstd: %w", err)
		}
		defer z.Close()
		return u.tar(z)
	case isTar(layer):
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
		return fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "the image has the file %q, which points out of its folder", name,
		)
	}
	if err := u.in.take(name, size); err != nil {
		return err
	}
	dest := filepath.Join(u.in.staging, local)
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
	u.fresh[name] = size
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
	for name := range u.in.doc.Files {
		if _, ours := u.fresh[name]; ours { // a marker hides what lower layers brought, not its own layer's files
			continue
		}
		if name == victim || victim == "." || strings.HasPrefix(name, victim+"/") {
			if err := os.Remove(filepath.Join(u.in.staging, filepath.FromSlash(name))); err != nil &&
				!errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing %s: %w", name, err)
			}
			delete(u.in.doc.Files, name)
		}
	}
	return nil
}
