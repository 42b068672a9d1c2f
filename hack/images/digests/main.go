// SPDX-License-Identifier: Apache-2.0

// digests lists the container images that this repository names, and pins their tags to digests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `digests lists the base images of the Dockerfiles and the images of the catalogue, and pins each tag
to its digest.

A pinned image keeps its tag, so that people can read it: NAME:TAG@sha256:DIGEST.

Usage:
  digests list      print every image, where it is, and whether it has a digest; asks no registry
  digests check     ask the registries; exit code 1 when a digest is missing or is not the tag's digest
  digests update    ask the registries, and write the digests into the files

An image that no registry answers for keeps what it has; "update" and "check" name it and exit with 1.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 done, 1 an image is not as it should be, 2 wrong usage.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("digests", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Usage = func() {
		_, _ = fmt.Fprint(errOut, usage)
		fs.PrintDefaults()
	}
	root := fs.String("root", ".", "the repository's root")
	r := resolver{}
	fs.BoolVar(&r.plainHTTP, "plain-http", false, "ask without TLS, for a registry on this machine")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	verbs := map[string]func([]reference) error{
		"list":   func(all []reference) error { return list(out, all) },
		"check":  func(all []reference) error { return check(ctx, out, r, all) },
		"update": func(all []reference) error { return update(ctx, out, *root, r, all) },
	}
	verb, known := verbs[fs.Arg(0)]
	if !known || fs.NArg() != 1 {
		_, _ = fmt.Fprintf(errOut, "digests: the argument is %q; allowed is one of list, check, update\n", fs.Args())
		return 2
	}
	all, err := find(*root)
	if err == nil {
		err = verb(all)
	}
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "digests:", err)
		return 1
	}
	return 0
}
