// SPDX-License-Identifier: Apache-2.0

// Command stepper runs the gpu-provisioner's controllers without a manager, one after another, at the times that a test
// commands. The test decides what happens between two calls, can kill the process there, and gets the same result for
// the same commands. The command is not part of the operator.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"kaito.sh/gpu-provisioner/internal/cloudprovider"
	"kaito.sh/gpu-provisioner/internal/operator"
)

// command is one round.
type command struct {
	// Now is the time of the clock during the round.
	Now time.Time `json:"now"`
	// Steps are the steps to run, in that order; see stepper.steps.
	Steps []string `json:"steps"`
	// Stale hides the writes of each step from the other steps of the round, as a cache that lags does.
	Stale bool `json:"stale,omitempty"`
	// Frozen hides every write since the round before, including those of other clients.
	Frozen bool `json:"frozen,omitempty"`
}

// result is the result of a round.
type result struct {
	Errors []string `json:"errors,omitempty"`
}

// flags are the operator's, and those that replace its manager.
type flags struct {
	operator.Options
	control, api string
}

func parse() *flags {
	f := &flags{Options: operator.DefaultOptions()}
	flag.StringVar(&f.control, "control", "", "URL that commands are read from and results are sent to")
	flag.StringVar(&f.api, "api", "", "URL of the Kubernetes API")
	f.AddFlags(flag.CommandLine)
	flag.Parse()
	return f
}

func main() {
	f := parse()
	ctrl.SetLogger(cloudprovider.Quiet(zap.New(zap.UseDevMode(true))))
	_, _ = fmt.Fprintln(os.Stderr, run(context.Background(), f)) // the test reads it
	os.Exit(1)
}

// run runs commands until the process is killed, or returns an error.
func run(ctx context.Context, f *flags) error {
	first, err := next(ctx, f.control)
	if err != nil {
		return err
	}
	s, err := newStepper(ctx, f, first.Now)
	if err != nil {
		return err
	}
	for c := first; ; {
		if err := done(ctx, f.control, s.round(ctx, c)); err != nil {
			return err
		}
		if c, err = next(ctx, f.control); err != nil {
			return err
		}
	}
}

// next waits for the next command.
func next(ctx context.Context, control string) (command, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, control, nil)
	if err != nil {
		return command{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return command{}, fmt.Errorf("waiting for a command: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // a body that was read
	var c command
	if err := json.NewDecoder(response.Body).Decode(&c); err != nil {
		return command{}, fmt.Errorf("reading a command: %w", err)
	}
	return c, nil
}

// done sends the result of a round.
func done(ctx context.Context, control string, r result) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, control, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("sending a result: %w", err)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}
