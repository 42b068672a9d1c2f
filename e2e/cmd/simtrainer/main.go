// Command simtrainer is the simulated trainer as a program. Its arguments, which name a script for Python, mean nothing to it:
// everything it is told comes from the environment (KAITO_*).
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

// stepTime makes the default run take some seconds: long enough to be seen at work, and to be interrupted.
const stepTime = 250 * time.Millisecond

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	code, err := simtrainer.Train(ctx, os.Getenv, os.Stdout, stepTime)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "simtrainer:", err) // nowhere is left to say that this failed
		return 1
	}
	return code
}
