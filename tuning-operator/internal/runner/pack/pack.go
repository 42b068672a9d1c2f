// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
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
	AnnotationChatTemplate  = "sh.kaito.chat-template" // the name of its file
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
