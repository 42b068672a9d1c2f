// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// factory makes images. The same sources and the same Go give the same digests on every machine.
type factory struct {
	root, out, tag string
	push           string
	plainHTTP      bool
	platforms      []string
	log            io.Writer
}

func (f *factory) check() error {
	if _, err := os.Stat(filepath.Join(f.root, "go.work")); err != nil {
		return fmt.Errorf("--root is %q, which is not the repository's root: it has no go.work", f.root)
	}
	for _, platform := range f.platforms {
		if system, arch, ok := strings.Cut(platform, "/"); !ok || system != "linux" || arch == "" {
			return fmt.Errorf("--platforms has %q; allowed are linux/ARCH, for instance linux/amd64,linux/arm64", platform)
		}
	}
	if _, err := name.NewTag("image:" + f.tag); err != nil {
		return fmt.Errorf("--tag is %q: %w", f.tag, err)
	}
	return nil
}

// make builds one image, writes its files, and pushes it when asked.
func (f *factory) make(ctx context.Context, s source) error {
	started := time.Now()
	folder, err := os.MkdirTemp("", "kaito-images-")
	if err != nil {
		return fmt.Errorf("making a folder for the binaries: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	var index v1.ImageIndex = empty.Index
	var own v1.Image
	for _, platform := range f.platforms {
		arch := strings.TrimPrefix(platform, "linux/")
		binaries := make([]string, len(s.programs))
		for i, p := range s.programs {
			binaries[i] = filepath.Join(folder, fmt.Sprintf("%s-%d", arch, i))
			if err := f.build(ctx, s, p, arch, binaries[i]); err != nil {
				return err
			}
		}
		image, err := assemble(s, arch, binaries)
		if err != nil {
			return err
		}
		if arch == runtime.GOARCH || own == nil {
			own = image
			if err := f.bill(s, binaries); err != nil {
				return err
			}
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	if err := f.write(s, own, index); err != nil {
		return err
	}
	if err := f.send(ctx, s, index); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if err := os.WriteFile(
		filepath.Join(f.out, s.name+".digest"), []byte(digest.String()+"\n"), 0o644,
	); err != nil { //nolint:gosec // meant to be read by all
		return fmt.Errorf("writing the digest: %w", err)
	}
	size, err := own.Size()
	if err != nil {
		return err
	}
	layers, err := own.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		bytes, err := layer.Size()
		if err != nil {
			return err
		}
		size += bytes
	}
	_, _ = fmt.Fprintf(
		f.log, "%-20s %5.1f MiB  %5.1f s  %s\n", s.name, float64(size)/(1<<20), time.Since(started).Seconds(), digest,
	)
	return nil
}

// build compiles a static binary as the Dockerfiles do.
func (f *factory) build(ctx context.Context, s source, p program, arch, binary string) error {
	build := exec.CommandContext(
		ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid= -X kaito.sh/shared/manager.release="+f.tag, "-o", binary, p.pkg,
	)
	build.Dir = filepath.Join(f.root, s.module)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOWORK=off", "GOFLAGS=")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s for %s: %w\n%s", p.pkg, arch, err, output)
	}
	return nil
}

func (f *factory) write(s source, own v1.Image, index v1.ImageIndex) error {
	folder := filepath.Join(f.out, "oci", s.name)
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
		return err
	}
	if _, err := layout.Write(folder, index); err != nil {
		return fmt.Errorf("writing the OCI layout: %w", err)
	}
	tag, err := name.NewTag(s.name + ":" + f.tag)
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(filepath.Join(f.out, s.name+".tar"), tag, own); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

func (f *factory) send(ctx context.Context, s source, index v1.ImageIndex) error {
	if f.push == "" {
		return nil
	}
	var options []name.Option
	if f.plainHTTP {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(f.push+"/"+s.name+":"+f.tag, options...)
	if err != nil {
		return fmt.Errorf("--push is %q: %w", f.push, err)
	}
	if err := remote.WriteIndex(
		tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
	); err != nil {
		return fmt.Errorf("pushing to %s: %w", tag, err)
	}
	return nil
}
