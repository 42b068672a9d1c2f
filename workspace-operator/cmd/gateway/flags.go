// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"kaito.sh/workspace-operator/internal/gateway"
)

type options struct {
	config   gateway.Config
	logLevel slog.Level
}

// envName returns the environment variable of a flag: GATEWAY_MAX_QUEUE for max-queue.
func envName(name string) string {
	return "GATEWAY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// parse reads the options from the flags, and where a flag is not given from its environment variable. The error is
// flag.ErrHelp where help was asked for and printed to out.
func parse(args []string, getenv func(string) string, out io.Writer) (options, error) {
	o := options{config: gateway.DefaultConfig()}
	c := &o.config
	set := flag.NewFlagSet("gateway", flag.ContinueOnError)
	set.SetOutput(io.Discard) // what is wrong is returned, not printed here as well

	set.StringVar(&c.Listen, "listen", c.Listen, "`address` that clients reach")
	set.StringVar(
		&c.StatusListen,
		"status-listen",
		c.StatusListen,
		"`address` of /healthz, /readyz, /metrics and /drained, for the cluster and not for clients",
	)
	set.StringVar(&c.Engine, "engine", c.Engine, "the inference engine's root `URL`: scheme and host only")
	set.StringVar(
		&c.Model,
		"model",
		c.Model,
		"served `name` that /chat asks the engine for, and that must be listed before the gateway is ready (required)",
	)
	set.Func(
		"prompt-api",
		"engine `call` that a /chat prompt becomes: chat (with the model's chat template) or completions (the bare text, for base models) (default "+string(
			c.PromptAPI,
		)+")",
		func(s string) error {
			c.PromptAPI = gateway.PromptAPI(s)
			return nil
		},
	)
	set.StringVar(
		&c.APIKeyFile,
		"api-key-file",
		c.APIKeyFile,
		"`file` of API keys, one a line, read again when it changes; without it no key is asked for",
	)
	set.Int64Var(
		&c.MaxBodyBytes,
		"max-body-bytes",
		c.MaxBodyBytes,
		"largest request body, in `bytes`; a larger one is answered with 413",
	)
	set.IntVar(
		&c.MaxConcurrent,
		"max-concurrent",
		c.MaxConcurrent,
		"`number` of requests that the engine works on at once",
	)
	set.IntVar(
		&c.MaxQueue,
		"max-queue",
		c.MaxQueue,
		"`number` of requests that may wait for the engine; one more is answered with 429",
	)
	set.DurationVar(&c.QueueTimeout, "queue-timeout", c.QueueTimeout, "longest `wait` for the engine, then 429")
	set.DurationVar(
		&c.RequestTimeout,
		"request-timeout",
		c.RequestTimeout,
		"longest `time` the engine may take for an answer that is not streamed, then 504",
	)
	set.DurationVar(
		&c.StreamTimeout,
		"stream-timeout",
		c.StreamTimeout,
		"longest `time` a streamed answer may take; 0 is unbounded",
	)
	set.DurationVar(
		&c.ReadHeaderTimeout,
		"read-header-timeout",
		c.ReadHeaderTimeout,
		"longest `time` a client may take to send its headers",
	)
	set.DurationVar(
		&c.ReadTimeout,
		"read-timeout",
		c.ReadTimeout,
		"longest `time` a client may take to send its body, then 408",
	)
	set.DurationVar(
		&c.WriteTimeout,
		"write-timeout",
		c.WriteTimeout,
		"longest `time` a client may leave a chunk of its answer unread before it is cut off",
	)
	set.DurationVar(&c.IdleTimeout, "idle-timeout", c.IdleTimeout, "longest `time` an unused connection is kept")
	set.DurationVar(
		&c.DrainDelay,
		"drain-delay",
		c.DrainDelay,
		"`time` after SIGTERM for which new requests are still taken while /readyz says no",
	)
	set.DurationVar(
		&c.DrainTimeout,
		"drain-timeout",
		c.DrainTimeout,
		"longest `time` from SIGTERM to the exit; keep it below the pod's terminationGracePeriodSeconds",
	)
	set.TextVar(
		&o.logLevel,
		"log-level",
		slog.LevelInfo,
		"least `level` that is logged: DEBUG (every request), INFO, WARN or ERROR",
	)

	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			usage(set, out)
		}
		return options{}, err
	}
	if set.NArg() > 0 {
		return options{}, fmt.Errorf("argument %q is not a flag; see --help", set.Arg(0))
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	set.VisitAll(func(f *flag.Flag) {
		value := getenv(envName(f.Name))
		if given[f.Name] || value == "" {
			return
		}
		if err := set.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s is %q: %w", envName(f.Name), value, err))
		}
	})
	return o, errors.Join(errs...)
}

func usage(set *flag.FlagSet, out io.Writer) {
	var text strings.Builder
	text.WriteString(`gateway answers POST /chat and OpenAI's /v1 calls in front of an inference engine.

Usage:
  gateway --model NAME [flags]

Each flag has an environment variable, which counts where the flag is not given. Spans are
sent where OTEL_EXPORTER_OTLP_ENDPOINT says, and nowhere without it.

Flags:
`)
	set.VisitAll(func(f *flag.Flag) {
		kind, help := flag.UnquoteUsage(f)
		fmt.Fprintf(&text, "  --%s %s ($%s)\n      %s", f.Name, kind, envName(f.Name), help)
		if f.DefValue != "" {
			fmt.Fprintf(&text, " (default %s)", f.DefValue)
		}
		text.WriteString("\n")
	})
	_, _ = io.WriteString(out, text.String()) // help that cannot be printed has no reader
}
