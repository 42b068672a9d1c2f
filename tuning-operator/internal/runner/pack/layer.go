// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

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
