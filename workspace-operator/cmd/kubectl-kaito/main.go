// SPDX-License-Identifier: Apache-2.0

// Command kubectl-kaito is a plugin of kubectl: kubectl kaito plan, status, chat, logs, audit, doctor and explain.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"

	"kaito.sh/workspace-operator/internal/plugin"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	os.Exit(plugin.Run(context.Background(), streams, clock.RealClock{}, signals, os.Args[1:]))
}
