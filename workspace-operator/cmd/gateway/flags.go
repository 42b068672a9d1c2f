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

// parse reads the options from the flags, or from the environment variables of flags that are not set. The error is
// flag.ErrHelp if it printed the help to out.
func parse(args []string, getenv func(string) string, out io.Writer) (options, error) {
	o := options{config: gateway.DefaultConfig()}
	c := &o.config
	set := flag.NewFlagSet("gateway", flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are returned, not printed

	set.StringVar(&c.Listen, "listen", c.Listen, "`address` for clients")
	set.StringVar(
		&c.StatusListen,
		"status-listen",
		c.StatusListen,
		"`address` of /healthz, /readyz, /metrics and /drained, for use inside the cluster",
	)
	set.StringVar(&c.Engine, "engine", c.Engine, "the inference engine's root `URL`: scheme and host only")
	set.StringVar(
		&c.Model,
		"model",
		c.Model,
		"`name` of the model that the engine serves; the gateway is ready when the engine lists it (required)",
	)
	set.Func(
		"prompt-api",
		"engine `call` for a /chat prompt: chat (with the model's chat template) or completions (the bare text, for base models) (default "+string(
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
		"`file` of API keys, one per line, reloaded when it changes; without it, no key is required",
	)
	set.Int64Var(
		&c.MaxBodyBytes,
		"max-body-bytes",
		c.MaxBodyBytes,
		"maximum size of a request body in `bytes`; larger ones get status 413",
	)
	set.IntVar(
		&c.MaxConcurrent,
		"max-concurrent",
		c.MaxConcurrent,
		"maximum `number` of requests that run in the engine",
	)
	set.IntVar(
		&c.MaxQueue,
		"max-queue",
		c.MaxQueue,
		"maximum `number` of requests that wait for the engine; further ones get status 429",
	)
	set.DurationVar(&c.QueueTimeout, "queue-timeout", c.QueueTimeout, "maximum `time` in the queue, then status 429")
	set.DurationVar(
		&c.RequestTimeout,
		"request-timeout",
		c.RequestTimeout,
		"maximum `time` of an answer that is not streamed, then status 504",
	)
	set.DurationVar(
		&c.StreamTimeout,
		"stream-timeout",
		c.StreamTimeout,
		"maximum `time` of a streamed answer; 0 is unlimited",
	)
	set.DurationVar(
		&c.ReadHeaderTimeout,
		"read-header-timeout",
		c.ReadHeaderTimeout,
		"maximum `time` for sending the headers of a request",
	)
	set.DurationVar(
		&c.ReadTimeout,
		"read-timeout",
		c.ReadTimeout,
		"maximum `time` for sending the body of a request, then status 408",
	)
	set.DurationVar(
		&c.WriteTimeout,
		"write-timeout",
		c.WriteTimeout,
		"maximum `time` that a client may leave a chunk of an answer unread",
	)
	set.DurationVar(&c.IdleTimeout, "idle-timeout", c.IdleTimeout, "maximum `time` that an unused connection is kept")
	set.DurationVar(
		&c.DrainDelay,
		"drain-delay",
		c.DrainDelay,
		"`time` after SIGTERM in which new requests are accepted although /readyz fails",
	)
	set.DurationVar(
		&c.DrainTimeout,
		"drain-timeout",
		c.DrainTimeout,
		"maximum `time` from SIGTERM to the exit; must be below the pod's terminationGracePeriodSeconds",
	)
	set.TextVar(
		&o.logLevel,
		"log-level",
		slog.LevelInfo,
		"minimum `level` of log lines: DEBUG (every request), INFO, WARN or ERROR",
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
	_, _ = io.WriteString(out, text.String()) // a write error cannot be reported
}
