// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
)

// defaultGrace exceeds the time that the operators need to release an object: two observations and a grace of a minute.
const defaultGrace = 5 * time.Minute

func (e *environment) auditCommand() *cobra.Command {
	var output, pools string
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Find orphans that cost money: claims, nodes and agent pools without an owner",
		Long: `Compare Workspaces, Machines, NodeClaims and Nodes of the cluster, and with --pools the agent pools of
the cloud, and list those without an owner. The exit code is 1 if orphans were found. The command changes nothing.

The cluster does not know all machines of Azure, and this command does not call Azure. Give it the output of az:

  az aks nodepool list -g GROUP --cluster-name CLUSTER -o json | kubectl kaito audit --pools -

It then also finds machines without a claim. It ignores pools without the gpu-provisioner's tags.`,
		Example: `  kubectl kaito audit
  kubectl kaito audit --pools pools.json -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inv := inventory{now: e.clock.Now(), grace: grace}
			if pools != "" {
				read, err := readPools(pools, e.In)
				if err != nil {
					return err
				}
				inv.pools, inv.cloud = read, true
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			if err := c.list(cmd.Context(), &inv); err != nil {
				return err
			}
			return e.report(inv, output)
		},
	}
	cmd.Flags().
		StringVar(&pools, "pools", "", "file with the output of `az aks nodepool list -o json`; - is the standard input")
	cmd.Flags().
		DurationVar(&grace, "grace", defaultGrace, "minimum age, or time since deletion, of an orphan")
	addOutput(cmd, &output)
	return cmd
}

// list reads the objects of the cluster. It fails if one kind cannot be read: a partial list would show objects as
// orphans that have an owner.
func (c *cluster) list(ctx context.Context, inv *inventory) error {
	workspaces := &kaitov1alpha1.WorkspaceList{}
	switch err := c.client.List(ctx, workspaces); {
	case absent(err):
		return errNoWorkspaceAPI
	case err != nil:
		return cannotAudit("Workspaces of all namespaces", err)
	}
	inv.workspaces = workspaces.Items
	for _, api := range nodeAPIs() {
		list := api.List()
		err := c.client.List(ctx, list)
		if absent(err) {
			continue
		}
		if err != nil {
			return cannotAudit(api.Kind()+"s", err)
		}
		for _, item := range api.Items(list) {
			inv.claims = append(inv.claims, api.Read(item))
		}
	}
	nodes := &corev1.NodeList{}
	if err := c.client.List(ctx, nodes); err != nil {
		return cannotAudit("Nodes", err)
	}
	inv.nodes = nodes.Items
	// List the Workspaces again: the claims can belong to one that was created between the lists.
	late := &kaitov1alpha1.WorkspaceList{}
	if err := c.client.List(ctx, late); err != nil {
		return cannotAudit("Workspaces of all namespaces", err)
	}
	inv.workspaces = append(inv.workspaces, late.Items...)
	return nil
}

func cannotAudit(what string, err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf(
			"you may not list %s, and an incomplete list shows wrong orphans: ask for the permission, see %s doctor: %w",
			what, kubectl, err,
		)
	}
	return fmt.Errorf("listing %s: %w", what, err)
}

// auditReport is the output of audit.
type auditReport struct {
	Orphans int `json:"orphans"`
	// CloudCompared is true if --pools was set.
	CloudCompared bool      `json:"cloudCompared"`
	Findings      []finding `json:"findings"`
}

func (e *environment) report(inv inventory, output string) error {
	prices, err := catalog.Load()
	if err != nil {
		return err
	}
	r := auditReport{CloudCompared: inv.cloud, Findings: inv.findings(prices)}
	for _, f := range r.Findings {
		if f.State == stateOrphan {
			r.Orphans++
		}
	}
	if output != "" {
		err = e.encode(output, r)
	} else {
		err = e.printAudit(&inv, r)
	}
	if err == nil && r.Orphans > 0 {
		return &noError{}
	}
	return err
}

func (e *environment) printAudit(inv *inventory, r auditReport) error {
	p := paletteFor(e.Out)
	if len(r.Findings) > 0 {
		t := e.table("STATE", "KIND", "NAME", "WORKSPACE", "AGE", "USD/H", "WHY", "WHAT TO DO")
		for _, f := range r.Findings {
			price := "-"
			if f.CostPerHour != nil {
				price = strconv.FormatFloat(*f.CostPerHour, 'f', 2, 64)
			}
			t.row(f.State, f.Kind, f.Name, orDash(f.Workspace), orDash(f.Age), price, f.Why, orDash(f.Remedy))
		}
		if err := t.end(); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(e.Out) // the next write reports a failing writer
	}
	line := p.paint(green, "no orphans")
	if r.Orphans > 0 {
		line = p.paint(red, plural(r.Orphans, "orphan"))
	}
	cloud := "agent pools were not compared: see --pools in " + kubectl + " audit --help"
	if inv.cloud {
		cloud = plural(len(inv.pools), "agent pool") + " compared"
	}
	_, err := fmt.Fprintf(
		e.Out, "%s among %s and %s of %s; %s\n", line, plural(len(inv.claims), "claim"), plural(len(inv.nodes), "node"),
		plural(inv.owners(), "Workspace"), cloud,
	)
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
