// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
)

// Exit codes.
const (
	// exitNo reports a negative answer: nothing fits, the Workspace is stalled, or orphans were found.
	exitNo = 1
	// exitFailed reports that there is no answer: wrong flags, no cluster, no such Workspace.
	exitFailed = 2
	// exitInterrupted is 128 + SIGINT, as in shells.
	exitInterrupted = 130
)

// noError is a negative answer. The details are printed already; text adds to them if it is not empty.
type noError struct{ text string }

func (e *noError) Error() string { return e.text }

// kubectl is the command line of the program, in help and in remedies.
const kubectl = "kubectl kaito"

// environment is shared by all commands.
type environment struct {
	genericiooptions.IOStreams
	flags *genericclioptions.ConfigFlags
	clock clock.WithTicker
	// interrupts end the innermost operation on Ctrl-C.
	interrupts *interrupts
}

// Run runs one command line and returns the exit code. Signals (SIGINT, SIGTERM) stop it.
func Run(
	ctx context.Context, streams genericiooptions.IOStreams, c clock.WithTicker, signals <-chan os.Signal, args []string,
) int {
	e := &environment{
		IOStreams:  streams,
		flags:      genericclioptions.NewConfigFlags(true),
		clock:      c,
		interrupts: &interrupts{},
	}
	ctx, release := e.interrupts.within(ctx)
	defer release()
	go e.interrupts.serve(ctx, signals)
	root := newRoot(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var no *noError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(streams.ErrOut, "interrupted")
		return exitInterrupted
	case errors.As(err, &no):
		if no.text != "" {
			_, _ = fmt.Fprintln(streams.ErrOut, no.text)
		}
		return exitNo
	}
	_, _ = fmt.Fprintf(streams.ErrOut, "error: %v\n", err)
	return exitFailed
}

func newRoot(e *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-kaito",
		Short: "Plan, watch, query and check Workspaces",
		Long: `Plan the GPU nodes for a model, watch a Workspace until it is Ready, chat with its model, and diagnose
problems.

plan and explain need no cluster. Exit codes: 0 success; 1 negative answer (nothing fits, stalled, orphans found, a
check failed); 2 no answer (wrong flags, no cluster); 130 interrupted.`,
		Example: `  # Show the nodes that a model needs, and their price
  kubectl kaito plan phi-4-mini-instruct

  # Watch a Workspace until it is Ready, then chat with its model
  kubectl kaito status phi-4-mini -w && kubectl kaito chat phi-4-mini "What is Kaito?"

  # Print the runbook of a reason
  kubectl kaito explain QuotaExceeded`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: kubectl},
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.ErrOut)
	root.SetVersionTemplate("kubectl kaito {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	e.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(
		e.planCommand(), e.statusCommand(), e.chatCommand(), e.logsCommand(),
		e.auditCommand(), e.doctorCommand(), e.explainCommand(), e.versionCommand(),
	)
	return root
}

func (e *environment) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(e.Out, kubectl, version())
			return err
		},
	}
}

// version returns the module's version, or the commit that the binary was built from. Package manager does the same for
// the operators, but it would link controller-runtime's manager into the plugin.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return "devel"
}
