// SPDX-License-Identifier: Apache-2.0

// Command fakeazure runs the fake Azure: Entra and ARM over TLS on loopback, and an admin endpoint for faults. See the
// README of kaito.sh/e2e/fakeazure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/fakeazure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "fakeazure:", err) // no other place to report it
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags, err := parse(args, stderr)
	if err != nil {
		return err
	}
	options, err := flags.options()
	if err != nil {
		return err
	}
	var scenario fakeazure.Scenario
	if flags.scenario != "" {
		if scenario, err = fakeazure.ReadScenario(flags.scenario); err != nil {
			return err
		}
	}
	server, err := fakeazure.New(options)
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	server.Play(scenario)
	// The configuration for the client: a gpu-provisioner config file that only lacks tokenFile.
	if err := describe(stdout, server); err != nil {
		return errors.Join(err, server.Stop())
	}
	<-ctx.Done()
	return server.Stop()
}

func describe(out io.Writer, server *fakeazure.Server) error {
	o := server.Options()
	text, err := yaml.Marshal(map[string]any{
		"cloud":                    "Custom",
		"resourceManagerEndpoint":  server.ARMEndpoint(),
		"authorityHost":            server.AuthorityHost(),
		"caFile":                   server.CAFile(),
		"disableInstanceDiscovery": true,
		"subscriptionID":           o.SubscriptionID,
		"resourceGroup":            o.ResourceGroup,
		"clusterName":              o.ClusterName,
		"tenantID":                 o.TenantID,
		"clientID":                 o.ClientID,
	})
	if err != nil {
		return fmt.Errorf("describing the server: %w", err)
	}
	_, err = fmt.Fprintf(out, "# admin: %s\n%s# ready\n", server.AdminEndpoint(), text)
	return err
}
