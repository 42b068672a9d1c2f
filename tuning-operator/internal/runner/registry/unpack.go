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

// unpacker writes the files of one layer to a folder. It ignores links and devices, and refuses names outside of the
// folder.
type unpacker struct {
	in     *incoming
	fresh  map[string]int64 // the files of this layer
	folder string           // the folder of an artifact that the layer holds, packed by oras
}

func newUnpacker(in *incoming, layer imagespec.Descriptor) *unpacker {
	u := &unpacker{in: in, fresh: map[string]int64{}}
	if layer.Annotations[orasfile.AnnotationUnpack] == "true" {
		u.folder = layer.Annotations[imagespec.AnnotationTitle]
	}
	return u
}

// isGzip and isZstd compare the end of media types, which is the same for OCI, Docker and ModelPack.
func isGzip(layer imagespec.Descriptor) bool {
	return strings.HasSuffix(layer.MediaType, "+gzip") || strings.HasSuffix(layer.MediaType, ".gzip")
}

func isZstd(layer imagespec.Descriptor) bool { return strings.HasSuffix(layer.MediaType, "+zstd") }

func isTar(layer imagespec.Descriptor) bool { return strings.HasSuffix(layer.MediaType, ".tar") }

// isArchive returns whether a layer is an archive. Any other layer is a single file.
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
		// The zstd format recommends that decoders support windows of 128 MiB. Larger ones are refused.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return fault.Permanent(tuningv1alpha1.ReasonSourceInvalid, "not zstd: %w", err)
		}
		defer z.Close()
		return u.tar(z)
	case isTar(layer):
		return u.tar(r)
	}
	// A single file: an artifact pushed by oras or by ModelPack's tools.
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
			name, ok = below(u.folder, h.Name) // the name of the pushed folder is part of the entry
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

// below returns the path of an entry relative to a folder of the layer. It returns false if the entry is outside of it.
func below(folder, name string) (string, bool) {
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	rel, ok := strings.CutPrefix(clean, strings.TrimPrefix(path.Clean("/"+folder), "/")+"/")
	return rel, ok && rel != ""
}

func (u *unpacker) file(name string, size int64, r io.Reader) error {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return fault.Permanent(
			tuningv1alpha1.ReasonSourceInvalid, "the image has the file %q, which is outside of its folder", name,
		)
	}
	if err := u.in.take(name, size); err != nil {
		return err
	}
	dest := filepath.Join(u.in.staging, local)
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil { // the trainer reads it as another user
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

// whiteout removes files of lower layers: one entry, or with the opaque marker all entries of its folder.
func (u *unpacker) whiteout(dir, base string) error {
	if base == ".wh..opq" { // the opaque marker of the image specification, with its prefix
		base = ""
	}
	victim := path.Join(dir, base)
	if base == ".." || !filepath.IsLocal(filepath.FromSlash(victim)) {
		return nil
	}
	for name := range u.in.doc.Files {
		if _, ours := u.fresh[name]; ours { // a marker hides files of lower layers only
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
