// SPDX-License-Identifier: Apache-2.0

// Command ranks starts and ends the processes of one engine on several nodes together. See package
// kaito.sh/workspace-operator/internal/ranks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"kaito.sh/workspace-operator/internal/ranks"
)

// exitUsage is the exit code for wrong arguments.
const exitUsage = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code, err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "ranks:", err) // a write error cannot be reported
	}
	os.Exit(code)
}

const help = `ranks starts and ends the processes of one engine on several nodes together.

Usage:
  ranks install FOLDER
      copies this program into a folder that the engine's container mounts
  ranks run --rank N --nodes N --leader HOST --port PORT [flags] -- COMMAND [ARGUMENT...]
      runs the engine when all ranks are connected to rank 0, and ends it when one of them ends

Exit codes of run: the engine's own (128 and the number of a signal); 75 where another rank has ended;
127 where the engine's program does not start; 2 for wrong flags.

Flags of run:
`

// run returns the exit code.
func run(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) == 0 {
		return exitUsage, errors.New("no command: give install or run; see --help")
	}
	switch args[0] {
	case "install":
		if len(args) != 2 {
			return exitUsage, errors.New("usage: ranks install FOLDER")
		}
		if err := ranks.Install(args[1]); err != nil {
			return 1, err
		}
		return 0, nil
	case "run":
		c, err := parse(args[1:], out)
		if errors.Is(err, flag.ErrHelp) {
			return 0, err
		}
		if err != nil {
			return exitUsage, err
		}
		return ranks.Run(ctx, c, slog.New(slog.NewTextHandler(out, nil)).With("program", "ranks"))
	case "help", "-h", "--help":
		_, err := parse([]string{"--help"}, out)
		return 0, err
	}
	return exitUsage, fmt.Errorf("command %q: give install or run; see --help", args[0])
}

func parse(args []string, out io.Writer) (ranks.Config, error) {
	c := ranks.DefaultConfig()
	set := flag.NewFlagSet("ranks run", flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are returned, not printed
	set.IntVar(&c.Nodes, "nodes", 0, "`number` of ranks (required)")
	set.IntVar(&c.Rank, "rank", -1, "this rank's `number`; 0 leads (required)")
	set.StringVar(&c.Leader, "leader", "", "`host` name of rank 0 (required)")
	set.IntVar(&c.Port, "port", 0, "TCP `port` on which rank 0 waits for the others (required)")
	set.Func("follower-arg", "further `argument` of the engine on all ranks but 0; repeatable", func(s string) error {
		c.FollowerArgs = append(c.FollowerArgs, s)
		return nil
	})
	set.StringVar(&c.TerminationLog, "termination-log", "", "`file` for the reason when another rank has ended")
	set.DurationVar(&c.Beat, "beat", c.Beat, "`time` between two signs of life")
	set.DurationVar(&c.Silence, "silence", c.Silence, "`time` without a sign of life after which a rank is lost")
	set.DurationVar(&c.Retry, "retry", c.Retry, "`time` between two attempts to reach rank 0")
	set.DurationVar(&c.EndTimeout, "end-timeout", c.EndTimeout, "maximum `time` from SIGTERM to the engine's end when another rank has ended")
	err := set.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(out, help) // a write error cannot be reported
		set.SetOutput(out)
		set.PrintDefaults()
	}
	if err != nil {
		return c, err
	}
	c.Command = set.Args()
	if c.Port == 0 {
		return c, errors.New("--port is required: give the TCP port on which rank 0 waits for the others")
	}
	return c, nil
}
