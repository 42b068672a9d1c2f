// SPDX-License-Identifier: Apache-2.0

// Command simtrainer is the simulated trainer as a program. Its arguments, which name a script for Python, mean nothing
// to it: its configuration is in the environment (KAITO_*).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kaito.sh/e2e/simtrainer"
)

// defaultStep makes the default run take some seconds: long enough to be seen at work, and to be interrupted.
const defaultStep = 250 * time.Millisecond

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	step := defaultStep
	if text := os.Getenv("SIM_STEP_TIME"); text != "" {
		var err error
		if step, err = time.ParseDuration(text); err != nil || step <= 0 {
			_, _ = fmt.Fprintf(
				os.Stderr, "simtrainer: SIM_STEP_TIME is %q: want a duration such as 20ms\n", text,
			) // nowhere is left to say that this failed
			return 1
		}
	}
	code, err := simtrainer.Train(ctx, os.Getenv, os.Stdout, step)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "simtrainer:", err) // nowhere is left to say that this failed
		return 1
	}
	return code
}
