// SPDX-License-Identifier: Apache-2.0

// Package cli is the runner's command line: fetch, push, package, resolve, trust.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/redact"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/netguard"
	"kaito.sh/tuning-operator/internal/runner/progress"
	"kaito.sh/tuning-operator/internal/runner/registry"
	"kaito.sh/tuning-operator/internal/runner/retry"
)

// Env is what a run takes from its process.
type Env struct {
	Args     []string
	Out, Err io.Writer
	Getenv   func(string) string
	Clock    clock.Clock
	// Transport replaces the guarded clients: tests trust their own servers' certificates.
	Transport clientFor
}

// clientFor makes the transport for a policy.
type clientFor func(netguard.Policy) *http.Client

// Exit codes besides those of package message.
const (
	exitFailed = 1
	exitUsage  = 2
)

// Run executes the command line and returns the exit code.
func Run(ctx context.Context, env Env) int {
	if env.Transport == nil {
		env.Transport = registry.NewHTTP
	}
	root := &cobra.Command{
		Use:           "runner",
		Short:         "Fetch models and datasets, package folders, push adapters",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	code := 0
	root.AddCommand(
		fetchCommand(env, &code), pushCommand(env, &code), packageCommand(env, &code), resolveCommand(env, &code),
		trustCommand(env, &code),
	)
	root.SetArgs(env.Args)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	if err := root.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintln(env.Err, "error:", redact.Error(err)) // nowhere else to complain
		return exitUsage
	}
	return code
}

// common are the flags of every command.
type common struct {
	progressAddress string
	terminationLog  string
	allowPrivate    bool
	plainHTTP       bool
}

func (c *common) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(
		&c.progressAddress, "progress-address", "",
		"serve GET /progress and /healthz at this address (host:port); empty: not at all",
	)
	c.registerLog(cmd)
	f.BoolVar(
		&c.allowPrivate,
		"allow-private",
		false,
		"permit sources and registries at loopback, link-local and private addresses, and http://",
	)
	f.BoolVar(&c.plainHTTP, "plain-http", false, "speak http to registries (local mirrors only)")
}

// registerLog is the one flag that a command has which speaks to nobody.
func (c *common) registerLog(cmd *cobra.Command) {
	cmd.Flags().
		StringVar(&c.terminationLog, "termination-log", "", "write the result as JSON to this file (/dev/termination-log in a pod); empty: not at all")
}

// session is one command's run.
type session struct {
	env      Env
	common   common
	progress *progress.Reporter
}

// run wraps a command's work: it serves progress, and whatever happens leaves a termination message and an exit code.
func run(
	ctx context.Context, env Env, c common, step message.Step, fallback string,
	work func(context.Context, *session) (message.Result, error),
) int {
	s := &session{env: env, common: c, progress: progress.New(string(step), env.Out, env.Clock)}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	_, wait, err := s.progress.Serve(serving, c.progressAddress)
	if err != nil {
		s.progress.Event("warning", err.Error(), nil)
		wait = func() error { return nil }
	}
	s.progress.Event("started", "", nil)
	result, err := work(ctx, s)
	err = redact.Error(err) // it ends in the log, and in a condition
	stop()
	if werr := wait(); werr != nil {
		s.progress.Event("warning", werr.Error(), nil)
	}
	return s.finish(ctx, step, fallback, result, err)
}

func (s *session) finish(
	ctx context.Context, step message.Step, fallback string, result message.Result, err error,
) int {
	code := 0
	result.Step = step
	switch {
	case err == nil:
		s.progress.Event("succeeded", "", nil)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		code = message.ExitPreempted
		result = message.Result{
			Step:    step,
			Reason:  tuningv1alpha1.ReasonInterrupted,
			Message: string(step) + " was stopped from outside",
		}
		s.progress.Event("interrupted", result.Message, nil)
	default:
		f := fault.Of(err, fallback)
		code = exitFailed
		if f.Permanent {
			code = message.ExitPermanent
		}
		result = message.Result{Step: step, Reason: f.Reason, Message: err.Error(), Permanent: f.Permanent}
		s.progress.Event("failed", err.Error(), map[string]any{"reason": f.Reason, "permanent": f.Permanent})
	}
	if err := result.Write(s.common.terminationLog); err != nil {
		s.progress.Event("warning", err.Error(), nil)
		if code == 0 { // nobody would learn the result
			code = exitFailed
		}
	}
	return code
}

// registry client with credentials; registries may stand at private addresses (a private endpoint), never at local
// ones.
func (s *session) registry(credentials []string) (*registry.Client, error) {
	cred, err := registry.Credentials(credentials...)
	if err != nil {
		return nil, err
	}
	return &registry.Client{
		HTTP:       s.env.Transport(netguard.Policy{AllowPrivate: true, AllowLocal: s.common.allowPrivate}),
		Credential: cred, Clock: s.env.Clock, Backoff: retry.Default(), Progress: s.progress,
		PlainHTTP: s.common.plainHTTP, AllowLocal: s.common.allowPrivate,
	}, nil
}
