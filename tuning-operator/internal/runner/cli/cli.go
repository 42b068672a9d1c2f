// SPDX-License-Identifier: Apache-2.0

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

// Env holds what a command takes from its process.
type Env struct {
	Args     []string
	Out, Err io.Writer
	Getenv   func(string) string
	Clock    clock.Clock
	// Transport replaces the guarded transport. Tests use it to trust the certificates of their servers.
	Transport clientFor
}

// clientFor returns the transport for a policy.
type clientFor func(netguard.Policy) *http.Client

// Exit codes in addition to those of package message.
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
		_, _ = fmt.Fprintln(env.Err, "error:", redact.Error(err))
		return exitUsage
	}
	return code
}

// common holds the flags of all commands.
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
		"address (host:port) that serves GET /progress and /healthz; empty: not served",
	)
	c.registerLog(cmd)
	f.BoolVar(
		&c.allowPrivate,
		"allow-private",
		false,
		"permission for sources and registries at loopback, link-local and private addresses, and for http://",
	)
	f.BoolVar(&c.plainHTTP, "plain-http", false, "http instead of https for registries (local mirrors only)")
}

// registerLog adds --termination-log, the only common flag of a command without network access.
func (c *common) registerLog(cmd *cobra.Command) {
	cmd.Flags().
		StringVar(&c.terminationLog, "termination-log", "", "file for the result as JSON (/dev/termination-log in a pod); empty: not written")
}

// session is the state of one command.
type session struct {
	env      Env
	common   common
	progress *progress.Reporter
}

// run runs a command's work. It serves progress, and always writes a termination message and returns an exit code.
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
	err = redact.Error(err) // it is written to the log and to a condition
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
			Message: string(step) + " was interrupted",
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
		if code == 0 { // the result would be lost
			code = exitFailed
		}
	}
	return code
}

// registry returns a registry client with credentials. Registries may have private addresses (a private endpoint), but
// not local ones.
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
