// SPDX-License-Identifier: Apache-2.0

// Command sources is the outside world of a test cluster as a program: a hub that speaks HuggingFace's API and an OCI
// registry, over TLS with a certificate that it is given.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"kaito.sh/e2e/sources"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "sources:", err) // nowhere is left to say that this failed
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sources", flag.ContinueOnError)
	hub := flags.String("hub", ":8443", "address of the hub")
	registry := flags.String("registry", ":5443", "address of the registry")
	certificate := flags.String("certificate", "/etc/tls/tls.crt", "file of the certificate (PEM)")
	key := flags.String("key", "/etc/tls/tls.key", "file of its key (PEM)")
	var login sources.Login
	flags.StringVar(&login.User, "user", "", "user of the registry; empty disables authentication")
	flags.StringVar(&login.Password, "password", "", "the user's password")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		return fmt.Errorf("reading --certificate and --key: %w", err)
	}
	var stops []func() error
	for _, s := range []struct {
		name, address string
		handler       http.Handler
	}{{"hub", *hub, sources.NewHub("")}, {"registry", *registry, sources.NewRegistry(login)}} {
		server, err := sources.Serve(ctx, s.address, pair, s.handler)
		if err != nil {
			return err
		}
		stops = append(stops, server.Stop)
		_, _ = fmt.Println("serving the", s.name, "on", server.Address()) // a write error is ignored
	}
	<-ctx.Done()
	var errs []error
	for _, stop := range stops {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}
