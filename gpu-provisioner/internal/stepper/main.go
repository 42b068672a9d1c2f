// SPDX-License-Identifier: Apache-2.0

// The stepper is the gpu-provisioner without a manager: the same controllers over the same engine and the same SDK, run
// one after another whenever somebody who holds the clock says so. A test that runs it as a process decides what
// happens between any two calls, may kill it there, and sees the same again with the same commands. It is no part of
// the operator.
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
	"kaito.sh/gpu-provisioner/internal/pool"
)

// command is one round.
type command struct {
	// Now is what the clock says during the round.
	Now time.Time `json:"now"`
	// Steps are what is run, in that order; see stepper.steps.
	Steps []string `json:"steps"`
	// Stale has no step see what another one of the round wrote, as caches that are behind do.
	Stale bool `json:"stale,omitempty"`
	// Frozen has nothing be seen that was written since the round before, by anybody.
	Frozen bool `json:"frozen,omitempty"`
}

// result is what came of it.
type result struct {
	Errors []string `json:"errors,omitempty"`
}

type flags struct {
	control, api, azureConfig, namespace string
	maxNodesPerPool                      int
	gpuReadyTimeout                      time.Duration
	settings                             pool.Settings
	intervals                            pool.Intervals
}

func (f *flags) parse() {
	flag.StringVar(&f.control, "control", "", "URL that commands are read from and results sent to")
	flag.StringVar(&f.api, "api", "", "URL of the Kubernetes API")
	flag.StringVar(&f.azureConfig, "azure-config", "", "as the operator's")
	flag.StringVar(&f.namespace, "namespace", "", "as the operator's")
	flag.IntVar(&f.maxNodesPerPool, "max-nodes-per-pool", 100, "as the operator's")
	flag.DurationVar(&f.gpuReadyTimeout, "gpu-ready-timeout", 15*time.Minute, "as the operator's")
	flag.DurationVar(&f.settings.Gather, "gather", time.Second, "as the operator's")
	flag.DurationVar(&f.settings.Patience, "patience", 2*time.Minute, "as the operator's")
	flag.DurationVar(&f.settings.Grace, "surplus-grace", time.Minute, "as the operator's")
	flag.DurationVar(&f.settings.OperationTimeout, "operation-timeout", 30*time.Minute, "as the operator's")
	flag.DurationVar(&f.settings.JoinTimeout, "node-join-timeout", 12*time.Minute, "as the operator's")
	flag.DurationVar(&f.intervals.Active, "refresh-active", 10*time.Second, "as the operator's")
	flag.DurationVar(&f.intervals.Idle, "refresh-idle", time.Minute, "as the operator's")
	f.settings.MaxPools = 100
	flag.Parse()
}

func main() {
	f := &flags{}
	f.parse()
	ctrl.SetLogger(cloudprovider.Quiet(zap.New(zap.UseDevMode(true))))
	_, _ = fmt.Fprintln(os.Stderr, run(context.Background(), f)) // nobody else is there to be told
	os.Exit(1)
}

// run carries out commands until somebody kills it, or says why it cannot.
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

// next waits for a command.
func next(ctx context.Context, control string) (command, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, control, nil)
	if err != nil {
		return command{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return command{}, fmt.Errorf("waiting for a command: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	var c command
	if err := json.NewDecoder(response.Body).Decode(&c); err != nil {
		return command{}, fmt.Errorf("reading a command: %w", err)
	}
	return c, nil
}

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
