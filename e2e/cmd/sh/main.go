// SPDX-License-Identifier: Apache-2.0

// Command sh is the shell of images that hold simulations: pods start real engines by `/bin/sh -c`, and these images
// have nothing else that could be one. A program that the script ends with takes the shell's place, as with every
// shell's exec, so that signals reach it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

func main() {
	err := run(os.Args[1:])
	if status := interp.ExitStatus(0); errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "sh:", err) // nowhere is left to say that this failed
		os.Exit(2)
	}
}

// run takes -c SCRIPT [NAME [ARGUMENT...]].
func run(args []string) error {
	if len(args) < 2 || args[0] != "-c" {
		return errors.New("usage: sh -c SCRIPT [NAME [ARGUMENT...]]")
	}
	name, parameters := "sh", []string{"--"}
	if len(args) > 2 {
		name, parameters = args[2], append(parameters, args[3:]...)
	}
	script, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(args[1]), name)
	if err != nil {
		return err
	}
	runner, err := interp.New(
		interp.Params(parameters...), interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.ExecHandlers(replace),
	)
	if err != nil {
		return err
	}
	return runner.Run(context.Background(), script)
}

// replace has the program take the place of this process: scripts of these pods end with the one program that they run.
func replace(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		handler := interp.HandlerCtx(ctx)
		path, err := interp.LookPathDir(handler.Dir, handler.Env, args[0])
		if err != nil {
			_, _ = fmt.Fprintln(handler.Stderr, err) // as shells do
			return interp.ExitStatus(127)
		}
		var env []string
		handler.Env.Each(func(name string, v expand.Variable) bool {
			if v.Exported && v.Kind == expand.String {
				env = append(env, name+"="+v.Str)
			}
			return true
		})
		return syscall.Exec(path, args, env) //nolint:gosec // what the pod's own script names
	}
}
