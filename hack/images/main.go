// SPDX-License-Identifier: Apache-2.0

// images builds the container images of this repository without a container engine: static binaries in an image of
// nothing but them, an unprivileged user and the public certificate authorities.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

const usage = `images builds container images without a container engine.

Usage:
  images [flags] [IMAGE...]

For each image it writes below --out
  NAME.tar         for this machine's architecture, for "docker load" and "kind load image-archive"
  oci/NAME         an OCI layout with every platform
  NAME.spdx.json   the modules that went into it
  NAME.digest      the digest of the image with every platform
and, with --push, sends every platform to REGISTRY/NAME:TAG.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var f factory
	fs := flag.NewFlagSet("images", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Usage = func() {
		_, _ = fmt.Fprint(errOut, usage)
		fs.PrintDefaults()
		_, _ = fmt.Fprintf(errOut, "\nImages: %s\n", strings.Join(names(), ", "))
	}
	fs.StringVar(&f.root, "root", ".", "the repository's root")
	fs.StringVar(&f.out, "out", "dist/images", "folder to write to")
	fs.StringVar(&f.tag, "tag", "latest", "tag of the images")
	fs.StringVar(
		&f.push, "push", "",
		"registry and path to push to, for instance registry.example.com/kaito (default: nothing is pushed)",
	)
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "push without TLS, to a registry on this machine")
	platforms := fs.String("platforms", "linux/"+runtime.GOARCH, "comma-separated platforms")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	f.platforms, f.log = strings.Split(*platforms, ","), out
	chosen, err := choose(fs.Args())
	if err == nil {
		err = f.check()
	}
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "images:", err)
		return 2
	}
	for _, one := range chosen {
		if err := f.make(ctx, one); err != nil {
			_, _ = fmt.Fprintf(errOut, "images: %s: %v\n", one.name, err)
			return 1
		}
	}
	return 0
}
