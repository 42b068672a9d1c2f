// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

func (e *environment) statusCommand() *cobra.Command {
	var watch, all bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status [WORKSPACE]",
		Short: "Show a Workspace with its claims, nodes, pods, tuning job and milestones, and how to fix problems",
		Long: `Show a Workspace as a tree: the Machines or NodeClaims, their nodes, the pods on them, the TuningJob and
its Job, with milestones and their times. Problems are repeated below the tree with their remedy. Without a name,
the command shows all Workspaces of the namespace.

With --watch, the command waits until the Workspace is Ready (exit code 0) or stalled, that is, needs a change by a
user (exit code 1). On a terminal it redraws the tree; otherwise it prints a line for each change.`,
		Example: `  kubectl kaito status phi-4-mini
  kubectl kaito status phi-4-mini --watch --timeout 30m
  kubectl kaito status -A`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeWorkspaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			switch {
			case watch && len(args) == 0:
				return errors.New("--watch needs the name of a Workspace")
			case all && len(args) > 0:
				return errors.New("-A and a name exclude each other")
			case watch:
				return e.watch(cmd.Context(), c, args[0], timeout)
			case len(args) == 1:
				return e.statusOf(cmd.Context(), c, args[0])
			}
			return e.statusOfAll(cmd.Context(), c, all)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "watch until Ready or stalled")
	cmd.Flags().
		DurationVar(&timeout, "timeout", 0, "maximum duration of --watch; then the exit code is 1 (default: no limit)")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "show the Workspaces of all namespaces")
	return cmd
}

func (e *environment) statusOf(ctx context.Context, c *cluster, name string) error {
	w, err := c.workspace(ctx, name)
	if err != nil {
		return err
	}
	return e.printStatus(ctx, c, w)
}

func (e *environment) printStatus(ctx context.Context, c *cluster, w *kaitov1alpha1.Workspace) error {
	s, err := c.look(ctx, w)
	if err != nil {
		return err
	}
	r := renderer{palette: paletteFor(e.Out), now: e.clock.Now()}
	_, err = fmt.Fprintln(e.Out, strings.Join(r.lines(s), "\n"))
	return err
}

func (e *environment) statusOfAll(ctx context.Context, c *cluster, everywhere bool) error {
	list := &kaitov1alpha1.WorkspaceList{}
	var in []client.ListOption
	if !everywhere {
		in = append(in, client.InNamespace(c.namespace))
	}
	switch err := c.client.List(ctx, list, in...); {
	case absent(err):
		return errNoWorkspaceAPI
	case err != nil:
		return fmt.Errorf("listing Workspaces: %w", err)
	}
	if len(list.Items) == 0 {
		where := "namespace " + c.namespace + " (-A shows all namespaces)"
		if everywhere {
			where = "the cluster"
		}
		_, err := fmt.Fprintf(e.ErrOut, "no Workspaces in %s\n", where)
		return err
	}
	for i := range list.Items {
		if i > 0 {
			_, _ = fmt.Fprintln(e.Out) // the next tree reports a failing writer
		}
		if err := e.printStatus(ctx, c, &list.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// ending reports whether a watch of the Workspace is complete: Ready (nil) or stalled (an error).
func ending(w *kaitov1alpha1.Workspace) (ended bool, err error) {
	if w.DeletionTimestamp != nil {
		return false, nil
	}
	// Ignore the status of an older generation.
	if c := meta.FindStatusCondition(
		w.Status.Conditions, kaitov1alpha1.ConditionStalled,
	); c != nil && c.Status == metav1.ConditionTrue &&
		c.ObservedGeneration >= w.Generation {
		return true, &noError{fmt.Sprintf("Workspace %s/%s is stalled: %s", w.Namespace, w.Name, c.Reason)}
	}
	c := meta.FindStatusCondition(w.Status.Conditions, kaitov1alpha1.ConditionReady)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration >= w.Generation, nil
}
