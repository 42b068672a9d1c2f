// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// Root is the folder of the files in the image.
const Root = "data"

// largeFile is the size in bytes from which a file is a layer. A push of a changed folder then sends only the changed
// files, several at a time.
const largeFile = 64 << 20

// ModelPack's layer annotations (https://github.com/modelpack/model-spec, docs/annotations.md).
const (
	AnnotationFilepath = "org.cncf.model.filepath"
	AnnotationMetadata = "org.cncf.model.file.metadata+json"
)

// Annotations of this project on the manifest.
const (
	AnnotationBaseModel     = "sh.kaito.base-model"
	AnnotationBaseRevision  = "sh.kaito.base-revision"
	AnnotationDatasetDigest = "sh.kaito.dataset-digest"
	AnnotationMetrics       = "sh.kaito.metrics"
	AnnotationKind          = "sh.kaito.kind"
)

// Image is the image of a folder. Its layers are produced each time they are opened, so that nothing is stored twice.
type Image struct {
	Config   []byte
	Manifest []byte
	Layers   []Layer
	// Size is the size of all files in bytes.
	Size int64
}

// Layer is an uncompressed tar.
type Layer struct {
	Descriptor imagespec.Descriptor
	files      []file
}

type file struct {
	name string // slash-separated, below Root
	path string // on disk
	size int64
}

// Build reads the folder once to compute the digests. Links and other special files are errors, because they would have
// another meaning on another machine. Hidden files and incomplete downloads (.part) are omitted.
func Build(dir string, annotations map[string]string) (*Image, error) {
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fault.Permanent(tuningv1alpha1.ReasonOutputInvalid, "folder %s has no files to package", dir)
	}
	img := &Image{}
	for _, group := range split(files) {
		layer := Layer{files: group}
		h := sha256.New()
		n, err := layer.writeTo(h)
		if err != nil {
			return nil, err
		}
		layer.Descriptor = imagespec.Descriptor{
			MediaType: imagespec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, h), Size: n,
			Annotations: layerAnnotations(group),
		}
		img.Layers = append(img.Layers, layer)
		for _, f := range group {
			img.Size += f.size
		}
	}
	return img, img.describe(annotations)
}

func list(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == dir {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fault.Permanent(
				tuningv1alpha1.ReasonOutputInvalid, "%s is a %s: only regular files can be packaged", p, info.Mode().Type(),
			)
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		files = append(files, file{name: filepath.ToSlash(rel), path: p, size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", dir, err)
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// split returns one layer for all small files, and one for each large file.
func split(files []file) [][]file {
	var small []file
	var out [][]file
	for _, f := range files {
		if f.size >= largeFile {
			out = append(out, []file{f})
		} else {
			small = append(small, f)
		}
	}
	if len(small) > 0 {
		out = slices.Insert(out, 0, small)
	}
	return out
}

func layerAnnotations(files []file) map[string]string {
	if len(files) != 1 {
		return map[string]string{AnnotationFilepath: Root + "/"}
	}
	meta, err := json.Marshal(
		map[string]any{
			"name":     path.Base(files[0].name),
			"mode":     0o644,
			"uid":      0,
			"gid":      0,
			"size":     files[0].size,
			"typeflag": 0,
		},
	)
	if err != nil { // cannot fail for strings and numbers
		return map[string]string{AnnotationFilepath: Root + "/" + files[0].name}
	}
	return map[string]string{AnnotationFilepath: Root + "/" + files[0].name, AnnotationMetadata: string(meta)}
}

// Open returns a reader of the layer's bytes. Reading fails if the folder has changed since Build.
func (l Layer) Open() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := l.writeTo(w)
		_ = w.CloseWithError(err) // documented to return nil
	}()
	return r
}

func (l Layer) writeTo(w io.Writer) (int64, error) {
	cw := &countingWriter{w: w}
	tw := tar.NewWriter(cw)
	made := map[string]bool{}
	for _, f := range l.files {
		if err := directories(tw, path.Dir(Root+"/"+f.name), made); err != nil {
			return cw.n, err
		}
		if err := writeFile(tw, f); err != nil {
			return cw.n, err
		}
	}
	if err := tw.Close(); err != nil {
		return cw.n, fmt.Errorf("writing the layer: %w", err)
	}
	return cw.n, nil
}

func header(name string, kind byte, mode, size int64) *tar.Header {
	return &tar.Header{
		Typeflag: kind,
		Name:     name,
		Mode:     mode,
		Size:     size,
		ModTime:  time.Unix(0, 0).UTC(),
		Format:   tar.FormatPAX,
	}
}

func directories(tw *tar.Writer, dir string, made map[string]bool) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := directories(tw, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	if err := tw.WriteHeader(header(dir+"/", tar.TypeDir, 0o755, 0)); err != nil {
		return fmt.Errorf("writing the layer: %w", err)
	}
	return nil
}

func writeFile(tw *tar.Writer, f file) error {
	in, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("packaging %s: %w", f.name, err)
	}
	defer func() { _ = in.Close() }()
	if err := tw.WriteHeader(header(Root+"/"+f.name, tar.TypeReg, 0o644, f.size)); err != nil {
		return fmt.Errorf("writing the layer: %w", err)
	}
	n, err := io.Copy(tw, in)
	if errors.Is(err, tar.ErrWriteTooLong) || (err == nil && n != f.size) {
		return fault.Transient(tuningv1alpha1.ReasonOutputInvalid, "%s changed while it was being packaged", f.name)
	}
	if err != nil {
		return fmt.Errorf("packaging %s: %w", f.name, err)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// describe creates the config and the manifest. They are reproducible, because Go's JSON sorts map keys.
func (i *Image) describe(annotations map[string]string) error {
	epoch := time.Unix(0, 0).UTC()
	config := imagespec.Image{
		Created:  &epoch,
		Platform: imagespec.Platform{OS: "linux", Architecture: "amd64"},
		Config:   imagespec.ImageConfig{Labels: annotations},
		RootFS:   imagespec.RootFS{Type: "layers"},
	}
	manifest := imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest, Annotations: annotations,
	}
	for _, l := range i.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Descriptor.Digest)
		config.History = append(
			config.History,
			imagespec.History{Created: &epoch, CreatedBy: "kaito runner: " + strconv.Itoa(len(l.files)) + " files"},
		)
		manifest.Layers = append(manifest.Layers, l.Descriptor)
	}
	var err error
	if i.Config, err = json.Marshal(config); err != nil {
		return fmt.Errorf("encoding the image's config: %w", err)
	}
	manifest.Config = imagespec.Descriptor{
		MediaType: imagespec.MediaTypeImageConfig,
		Digest:    digest.FromBytes(i.Config),
		Size:      int64(len(i.Config)),
	}
	if i.Manifest, err = json.Marshal(manifest); err != nil {
		return fmt.Errorf("encoding the image's manifest: %w", err)
	}
	return nil
}

// ConfigDescriptor returns the descriptor of the image's config.
func (i *Image) ConfigDescriptor() imagespec.Descriptor {
	return imagespec.Descriptor{
		MediaType: imagespec.MediaTypeImageConfig,
		Digest:    digest.FromBytes(i.Config),
		Size:      int64(len(i.Config)),
	}
}

// Descriptor returns the descriptor of the manifest.
func (i *Image) Descriptor() imagespec.Descriptor {
	return imagespec.Descriptor{
		MediaType: imagespec.MediaTypeImageManifest,
		Digest:    digest.FromBytes(i.Manifest),
		Size:      int64(len(i.Manifest)),
	}
}
