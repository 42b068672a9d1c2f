// SPDX-License-Identifier: Apache-2.0

// devcluster runs the main job where anyone can watch it: the quick start's Workspace from nothing to an answer and
// back.
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

const usage = `devcluster shows the main job on a cluster.

Usage:
  devcluster demo [flags]

Flags of demo:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var d demo
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Usage = func() {
		_, _ = fmt.Fprint(errOut, usage)
		fs.PrintDefaults()
	}
	fs.StringVar(&d.root, "root", ".", "the repository's root; bin/ below it holds the binaries")
	fs.StringVar(
		&d.where, "cluster", "embedded",
		"embedded: a control plane of its own; kind: a kind cluster of its own; existing: the current context of KUBECONFIG",
	)
	fs.StringVar(&d.kindest, "kind-image", "", "the node image of --cluster kind; empty means kind's default")
	fs.StringVar(
		&d.nodeIP, "node-ip", "",
		"with --cluster existing: this machine's address as the API server reaches it; empty means that it is found out",
	)
	fs.BoolVar(&d.keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	if len(args) == 0 || args[0] != "demo" {
		fs.Usage()
		if len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
			return 0
		}
		return 2
	}
	switch err := fs.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	d.out = out
	err := d.run(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(errOut, "\ninterrupted: everything that was started has been stopped")
		return 130
	default:
		_, _ = fmt.Fprintf(errOut, "\ndemo: %v\n", err)
		return 1
	}
}
