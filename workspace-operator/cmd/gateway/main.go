// SPDX-License-Identifier: Apache-2.0

// Command gateway is the HTTP server in front of an inference engine. See package
// kaito.sh/workspace-operator/internal/gateway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kaito.sh/workspace-operator/internal/gateway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "gateway:", err) // a write error cannot be reported
		stop()
		os.Exit(1) //nolint:gocritic // stop was called above
	}
}

// run serves until ctx ends and returns nil after a complete drain.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) (err error) {
	options, err := parse(args, getenv, out)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: options.logLevel}))
	provider, err := gateway.NewTracerProvider(ctx, getenv)
	if err != nil {
		return err
	}
	given := gateway.Options{Logger: logger}
	if provider != nil {
		given.TracerProvider = provider
		defer func() {
			// Send the spans of the last requests, with a time limit.
			flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			defer cancel()
			if shutdownErr := provider.Shutdown(flush); shutdownErr != nil {
				logger.Warn("Sending the last spans failed", "error", shutdownErr)
			}
		}()
	}
	g, err := gateway.New(options.config, given)
	if err != nil {
		return fmt.Errorf("%w\nSee --help", err)
	}
	ln, err := listen(ctx, "listen", options.config.Listen)
	if err != nil {
		return err
	}
	status, err := listen(ctx, "status-listen", options.config.StatusListen)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	return g.Serve(ctx, ln, status)
}

func listen(ctx context.Context, name, address string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s is %q: %w", name, address, err)
	}
	return ln, nil
}
