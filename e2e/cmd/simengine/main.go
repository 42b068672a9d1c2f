// SPDX-License-Identifier: Apache-2.0

// Command simengine is the simulated inference engine as a program. It takes the arguments of `vllm serve`, so that a
// pod's can be handed to it as they are, and a few of its own: see simengine.ParseArgs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kaito.sh/e2e/simengine"
)

// stopTimeout is the maximum time of running answers after SIGTERM.
const stopTimeout = 5 * time.Second

func main() {
	if err := run(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "simengine:", err) // nowhere is left to say that this failed
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	opts, address, err := simengine.ParseArgs(os.Args[1:], os.Getenv)
	if err != nil {
		return err
	}
	engine, err := simengine.New(opts)
	if err != nil {
		return err
	}
	if opts.Group.Nodes > 1 {
		lost, err := opts.Group.Meet(ctx)
		if err != nil {
			return fmt.Errorf("meeting the other ranks: %w", err)
		}
		_, _ = fmt.Println("rank", opts.Group.Rank, "has met the others")
		if opts.Group.Headless {
			<-ctx.Done()
			return nil
		}
		go func() {
			<-lost
			engine.Stall()
		}()
	}
	url, err := engine.Start(ctx, address)
	if err != nil {
		return err
	}
	// The caller reads the address from this line.
	_, _ = fmt.Println("serving", opts.ServedNames[0], "on", url)
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := engine.Stop(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
