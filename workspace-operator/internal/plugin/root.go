// SPDX-License-Identifier: Apache-2.0

// Package plugin is kubectl kaito: commands that plan without a cluster, and that look into one.
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
	// exitNo: the command could answer, and the answer is no: nothing fits, the Workspace is stalled, orphans were found.
	exitNo = 1
	// exitFailed: the command could not answer: wrong flags, no cluster, no such Workspace.
	exitFailed = 2
	// exitInterrupted is 128 + SIGINT, as shells have it.
	exitInterrupted = 130
)

// noError is an answer of no. What it says was printed already, unless text adds to it.
type noError struct{ text string }

func (e *noError) Error() string { return e.text }

// kubectl is how the program is called, in help and in remedies.
const kubectl = "kubectl kaito"

// environment is what all commands share.
type environment struct {
	genericiooptions.IOStreams
	flags *genericclioptions.ConfigFlags
	clock clock.WithTicker
	// interrupts are what Ctrl-C ends.
	interrupts *interrupts
}

// Run carries out one command line and returns the exit code. Signals (SIGINT, SIGTERM) end it.
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
		Short: "Plan, follow, ask and check Workspaces",
		Long: `Plan what a model runs on, follow a Workspace until it answers, ask it, and find out why something does not work.

plan and explain need no cluster. Exit codes: 0 yes; 1 no (nothing fits, stalled, orphans, a check that failed);
2 the question could not be answered; 130 interrupted.`,
		Example: `  # What does a model need, and what does it cost?
  kubectl kaito plan phi-4-mini-instruct

  # Follow a Workspace until it answers, then ask it
  kubectl kaito status phi-4-mini -w && kubectl kaito chat phi-4-mini "What is Kaito?"

  # What does this reason mean, and what is to be done?
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

// version is the module's, or the commit that the binary was built from. Package manager has the same for the
// operators, with all that an operator is made of behind it.
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
