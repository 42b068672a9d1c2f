// SPDX-License-Identifier: Apache-2.0

// sign signs pushed images as cosign does (https://docs.sigstore.dev), and attaches to each its bill of materials and
// its provenance.
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
	"time"
)

const usage = `sign signs images that "make images" has built and pushed, and attaches their SBOM and provenance.

Usage:
  sign --key cosign.key|--keyless --registry REGISTRY [flags] IMAGE...
  sign --key cosign.key|--keyless --external REFERENCE --bill FILE [flags]

The first form signs REGISTRY/IMAGE at the digest in IMAGE.digest below --images, with the SBOM in IMAGE.spdx.json.
The second signs an image that another tool built, without provenance, because its build is unknown.

--key reads a key pair of "cosign generate-key-pair"; its password is in COSIGN_PASSWORD. --keyless gets an identity
token from --identity-token, SIGSTORE_ID_TOKEN or the CI, and Fulcio certifies its identity.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// flags are what a user chooses.
type flags struct {
	root, images, registry, tag, builder, platforms string
	external, bill                                  string
	allowDirty                                      bool
	plainHTTP                                       bool
	access                                          access
}

// run returns the exit code: 0 done, 1 failed, 2 wrong usage.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	f, names, code := parse(args, errOut)
	if code >= 0 {
		return code
	}
	if err := release(ctx, f, names, out); err != nil {
		_, _ = fmt.Fprintln(errOut, "sign:", err)
		return 1
	}
	return 0
}

// parse returns the flags and the images' names; a code below 0 means that the work can begin.
func parse(args []string, errOut io.Writer) (flags, []string, int) {
	var f flags
	fs := flag.NewFlagSet("sign", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Usage = func() {
		_, _ = fmt.Fprint(errOut, usage)
		fs.PrintDefaults()
	}
	fs.StringVar(&f.root, "root", ".", "the repository's root, for the commit in the provenance")
	fs.StringVar(&f.images, "images", "dist/images", "folder that `make images` has written")
	fs.StringVar(
		&f.registry, "registry", "",
		"registry and path that the images were pushed to, for instance registry.example.com/kaito",
	)
	fs.StringVar(&f.tag, "tag", "latest", "tag of the images, for the provenance")
	fs.StringVar(&f.platforms, "platforms", "", "platforms of the images, for the provenance")
	fs.StringVar(
		&f.builder,
		"builder",
		"https://kaito.sh/builders/make-release",
		"URI of who builds, for the provenance: name your CI's",
	)
	fs.StringVar(&f.external, "external", "", "image that another tool has built and pushed, with its tag or digest")
	fs.StringVar(&f.bill, "bill", "", "SPDX file in JSON of the --external image")
	fs.BoolVar(&f.allowDirty, "allow-dirty", false, "sign although the work tree has changes that no commit holds")
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "reach the registry without TLS, on this machine")
	fs.StringVar(&f.access.key, "key", "", "file of a private key of cosign's")
	fs.BoolVar(&f.access.keyless, "keyless", false, "sign with a certificate for the identity in a token")
	fs.StringVar(&f.access.token, "identity-token", "", "identity token, or the file that holds it")
	fs.StringVar(
		&f.access.configFile, "signing-config", "", "services of a Sigstore of your own, in JSON (default: the public ones)",
	)
	fs.BoolVar(&f.access.noLog, "no-log", false, "with --key: write no entry to a public transparency log")
	fs.DurationVar(&f.access.timeout, "timeout", 5*time.Minute, "bound for all of the work")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return f, nil, 0
	case err != nil:
		return f, nil, 2
	}
	if err := f.check(fs.Args()); err != nil {
		_, _ = fmt.Fprintln(errOut, "sign:", err)
		return f, nil, 2
	}
	return f, fs.Args(), -1
}

func (f flags) check(names []string) error {
	switch {
	case (f.access.key == "") == !f.access.keyless:
		return errors.New("name one of --key FILE and --keyless")
	case f.access.keyless && f.access.noLog:
		return errors.New(
			"--no-log goes with --key: without a log there is no proof of when a short-lived certificate was used",
		)
	case f.external != "" && len(names) > 0:
		return fmt.Errorf("--external is %q and images are named, too: sign them one after the other", f.external)
	case f.external != "" && f.bill == "":
		return errors.New("--bill is empty: name the SPDX file of the --external image")
	case f.external == "" && len(names) == 0:
		return errors.New("no image is named, for instance workspace-operator")
	case f.external == "" && f.registry == "":
		return errors.New(
			"--registry is empty: name where the images were pushed to, for instance registry.example.com/kaito",
		)
	}
	return nil
}
