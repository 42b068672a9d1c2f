// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kaito.sh/workspace-operator/internal/runbook"
)

func (e *environment) explainCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain [REASON]",
		Short: "Print the runbook of a reason: its meaning and the remedy",
		Long:  "Print the runbook of a reason of a Workspace, Machine, NodeClaim or TuningJob. Without a reason, list all. Needs no cluster.",
		Example: `  kubectl kaito explain QuotaExceeded
  kubectl kaito explain`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return runbook.Reasons(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return e.listReasons(output)
			}
			return e.explain(args[0], output)
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func (e *environment) listReasons(output string) error {
	var pages []runbook.Page
	for _, reason := range runbook.Reasons() {
		page, _ := runbook.Find(reason)
		pages = append(pages, page)
	}
	if output != "" {
		return e.encode(output, pages)
	}
	t := e.table("REASON", "WHAT IT MEANS")
	for _, page := range pages {
		t.row(page.Reason, plain(page.Meaning))
	}
	return t.end()
}

func (e *environment) explain(reason, output string) error {
	page, found := runbook.Find(reason)
	if !found {
		return unknownReason(reason)
	}
	if output != "" {
		return e.encode(output, page)
	}
	_, err := fmt.Fprintln(e.Out, plain(strings.TrimPrefix(page.Text, "# ")))
	return err
}

func unknownReason(reason string) error {
	if i := slices.IndexFunc(runbook.InProgress(), func(r string) bool { return strings.EqualFold(r, reason) }); i >= 0 {
		return &noError{
			fmt.Sprintf(
				"%s is a reason of work in progress or of success: no action is needed; %s status WORKSPACE shows the progress",
				runbook.InProgress()[i], kubectl,
			),
		}
	}
	if near := runbook.Nearest(reason); len(near) > 0 {
		return &noError{fmt.Sprintf("no runbook for %q; did you mean %s?", reason, strings.Join(near, ", "))}
	}
	return &noError{fmt.Sprintf("no runbook for %q; %s explain lists all reasons", reason, kubectl)}
}

// plain removes emphasis from a runbook's Markdown. It keeps the backticks of commands.
func plain(text string) string { return strings.ReplaceAll(text, "**", "") }
