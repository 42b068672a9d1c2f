// SPDX-License-Identifier: Apache-2.0

// Command runner fetches models and datasets, packages folders and pushes them. It runs in the containers fetch and
// push of a tuning job, and is also a tool for people.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/utils/clock"

	"kaito.sh/tuning-operator/internal/runner/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(
		ctx, cli.Env{Args: os.Args[1:], Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Clock: clock.RealClock{}},
	)
	stop()
	os.Exit(code)
}
