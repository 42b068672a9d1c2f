// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"kaito.sh/e2e/fakeazure"
)

type flagValues struct {
	fakeazure.Options
	kubeconfig, jwks, scenario string
	speed                      float64
	quotas                     map[string]fakeazure.Quota
}

// parse parses and checks the flags.
func parse(args []string, stderr io.Writer) (*flagValues, error) {
	v := &flagValues{quotas: map[string]fakeazure.Quota{}}
	set := flag.NewFlagSet("fakeazure", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		_, _ = fmt.Fprintf(
			stderr, "fakeazure serves Entra and ARM of one AKS cluster over TLS on loopback until SIGTERM.\n\nFlags:\n",
		) // the write to stderr may fail
		set.PrintDefaults()
		_, _ = fmt.Fprintf(stderr, "\nError kinds of scenarios: %s\n", strings.Join(fakeazure.Kinds(), ", "))
	}
	v.define(set)
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; all settings are flags", set.Arg(0))
	}
	if v.speed < 1 {
		return nil, fmt.Errorf("--speed is %g; it must be 1 or more", v.speed)
	}
	return v, nil
}

// define defines the flags.
func (v *flagValues) define(set *flag.FlagSet) {
	set.StringVar(
		&v.Dir, "dir", "",
		"folder of the certificate, the state and the addresses; a start on the same folder continues from its state (default: a temporary folder)",
	)
	set.StringVar(&v.ARMAddress, "arm-address", "", "host:port of ARM (default: the last one, or any free port)")
	set.StringVar(&v.EntraAddress, "entra-address", "", "host:port of Entra (default: the last one, or any free port)")
	set.StringVar(
		&v.AdminAddress, "admin-address", "", "host:port of the admin endpoint (default: the last one, or any free port)",
	)
	set.StringVar(
		&v.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster in which machines become Nodes that KWOK keeps alive (default: no Nodes)",
	)
	set.StringVar(&v.scenario, "scenario", "", "file of faults and events to play; - for the standard input")
	set.Float64Var(&v.speed, "speed", 1, "seconds of the cloud's clock per real second")
	set.StringVar(&v.SubscriptionID, "subscription", "", "subscription ID")
	set.StringVar(&v.TenantID, "tenant", "", "tenant ID")
	set.StringVar(&v.ClientID, "client", "", "client ID of the only identity")
	set.StringVar(&v.ResourceGroup, "resource-group", "", "resource group of the cluster (default kaito-rg)")
	set.StringVar(&v.ClusterName, "cluster", "", "name of the cluster (default kaito)")
	set.StringVar(&v.Location, "location", "", "region (default eastus)")
	set.StringVar(
		&v.Subject, "subject", "",
		"only accepted subject of federated tokens, system:serviceaccount:<namespace>:<name> (default: any)",
	)
	set.StringVar(&v.Issuer, "issuer", "", "only accepted issuer of federated tokens (default: any)")
	set.StringVar(
		&v.jwks, "jwks", "",
		"file of the keys that sign federated tokens, as returned by /openid/v1/jwks (default: signatures are not checked)",
	)
	set.IntVar(&v.PageSize, "page-size", 0, "number of entries on a page of a list (default 50)")
	set.BoolVar(&v.Limits.Off, "no-limits", false, "turn throttling off")
	set.DurationVar(&v.Durations.CreatePool, "create-pool", 0, "time to create a pool (default 3m)")
	set.DurationVar(&v.Durations.Scale, "scale", 0, "time to scale a pool (default 3m)")
	set.DurationVar(&v.Durations.DeletePool, "delete-pool", 0, "time to delete a pool (default 2m)")
	set.DurationVar(&v.Durations.DeleteMachines, "delete-machines", 0, "time to delete machines (default 2m)")
	set.DurationVar(&v.Durations.VMBoot, "vm-boot", 0, "time from a PUT until a machine is listed (default 1m)")
	set.DurationVar(&v.Durations.NodeJoin, "node-join", 0, "time from then until it is a Node (default 1m30s)")
	set.Func(
		"quota",
		"quota in vCPUs, name=limit[:used], repeatable; name is a quota family, cores (the region's) or lowPriorityCores (spot)",
		v.quota,
	)
}

func (v *flagValues) quota(text string) error {
	name, figures, ok := strings.Cut(text, "=")
	limit, used, hasUsed := strings.Cut(figures, ":")
	q := fakeazure.Quota{}
	var err error
	if q.Limit, err = strconv.ParseInt(limit, 10, 64); err != nil || !ok || name == "" {
		return fmt.Errorf("%q is not name=limit[:used]", text)
	}
	if hasUsed {
		if q.Used, err = strconv.ParseInt(used, 10, 64); err != nil {
			return fmt.Errorf("%q is not name=limit[:used]", text)
		}
	}
	v.quotas[name] = q
	return nil
}

// options returns the server's options.
func (v *flagValues) options() (fakeazure.Options, error) {
	o := v.Options
	o.Clock = fakeazure.Accelerated(v.speed)
	o.FamilyQuota = map[string]fakeazure.Quota{}
	for name, q := range v.quotas {
		switch name {
		case "cores":
			o.RegionalQuota = q
		case "lowPriorityCores":
			o.SpotQuota = q
		default:
			o.FamilyQuota[name] = q
		}
	}
	if v.jwks != "" {
		text, err := os.ReadFile(v.jwks)
		if err != nil {
			return o, fmt.Errorf("reading --jwks: %w", err)
		}
		o.Keys = &jose.JSONWebKeySet{}
		if err := json.Unmarshal(text, o.Keys); err != nil {
			return o, fmt.Errorf("reading --jwks %s: %w", v.jwks, err)
		}
	}
	if v.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", v.kubeconfig)
		if err != nil {
			return o, fmt.Errorf("reading --kubeconfig: %w", err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return o, fmt.Errorf("making a client of --kubeconfig: %w", err)
		}
		o.Nodes = fakeazure.NewKWOK(client)
	}
	return o, nil
}
