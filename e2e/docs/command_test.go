// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
)

// handler runs a program for a page, or says why not. args[0] is the program's name.
type handler func(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error

// handlers are the programs that pages may use. Another program fails the test: add a handler that checks it.
var handlers = map[string]handler{
	"kubectl": kubectl,
	"az":      az,
	"make":    makeDry,
	"go":      goCheck,
	"curl":    curl,

	"kustomize": run,
	"runner":    flagsOf("runner", "files and registries of the reader's own"),
	"base64":    run,
	"cat":       run,
	"head":      run,
	"mkdir":     run,
	"sed":       run,
	"tr":        run,

	"helm":   leave("a chart that is on the internet"),
	"git":    leave("a clone from the internet"),
	"docker": leave("a registry of the reader's own"),
	"cosign": leave("a release in a registry of the reader's own; hack/sign's tests verify one with cosign's code"),
}

func known(name string) (handler, error) {
	if handle, ok := handlers[name]; ok {
		return handle, nil
	}
	if strings.Contains(name, "/") {
		return script, nil
	}
	return nil, fmt.Errorf("no handler checks %q: add one to handlers in e2e/docs/command_test.go", name)
}

// run runs the program as it is.
func run(ctx context.Context, _ *walk, next interp.ExecHandlerFunc, args []string) error {
	return next(ctx, args)
}

// leave is for programs that need what is not here.
func leave(reason string) handler {
	return func(_ context.Context, w *walk, _ interp.ExecHandlerFunc, _ []string) error { return w.notRun(reason) }
}

// script is a program of the repository, by its path: it has to be there. What it does other suites run.
func script(ctx context.Context, w *walk, _ interp.ExecHandlerFunc, args []string) error {
	info, err := os.Stat(filepath.Join(interp.HandlerCtx(ctx).Dir, args[0]))
	if err != nil {
		return err
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s cannot be executed", args[0])
	}
	return w.notRun("a suite of its own")
}

// makeDry has make print what it would do: targets and variables are right. What the release needs of a registry is put
// in its place, so that what it writes is there.
func makeDry(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error {
	if err := next(ctx, slices.Concat([]string{"make", "-n"}, args[1:])); err != nil {
		return err
	}
	if slices.Contains(args, "release") {
		return release(ctx, w, next, args)
	}
	return w.notRun("make, dry: other suites run its targets")
}

// release writes dist/install*.yaml for images that are not pushed.
func release(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error {
	registry := "registry.example.com"
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "PUSH="); ok {
			registry = value
		}
	}
	images := filepath.Join(w.folder.root, "dist", "images")
	if err := os.MkdirAll(images, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"workspace-operator", "gpu-provisioner", "tuning-operator", "gateway", "runner"} {
		if err := os.WriteFile(
			filepath.Join(images, name+".digest"), []byte("sha256:"+strings.Repeat("0", 64)), 0o600,
		); err != nil {
			return err
		}
	}
	return next(ctx, []string{filepath.Join(w.folder.root, "hack", "release"), registry, registry + "/trainer:dev"})
}

// goCheck has go find what it is to run or to test, and the program know its flags.
func goCheck(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error {
	var packages []string
	for i, arg := range args[1:] {
		if strings.HasPrefix(arg, "./") {
			packages = append(packages, arg)
			if args[1] == "run" {
				if err := knowsFlags(
					ctx, w, next, filepath.Join(w.folder.root, "bin", filepath.Base(arg)), nil, args[i+2:],
				); err != nil {
					return err
				}
				break
			}
		}
	}
	if len(packages) == 0 {
		return fmt.Errorf("go %s names no package below the folder", args[1])
	}
	for _, folder := range packages {
		files, err := filepath.Glob(filepath.Join(interp.HandlerCtx(ctx).Dir, strings.TrimSuffix(folder, "/..."), "*.go"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("there is no Go in %s", folder)
		}
	}
	return w.notRun("go: other suites run it")
}

// flagsOf has a program say whether it knows the flags, without running it.
func flagsOf(program, reason string) handler {
	return func(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error {
		if slices.Contains(args, "--help") {
			return next(ctx, args)
		}
		if err := knowsFlags(ctx, w, next, filepath.Join(w.folder.tools, program), args[1:2], args[2:]); err != nil {
			return err
		}
		return w.notRun(reason)
	}
}

// knowsFlags looks for each flag in what the program's help says.
func knowsFlags(
	ctx context.Context, w *walk, next interp.ExecHandlerFunc, program string, subcommand, args []string,
) error {
	w.output.Reset()
	if err := next(ctx, slices.Concat([]string{program}, subcommand, []string{"--help"})); err != nil {
		return err
	}
	help := w.output.String()
	for _, arg := range args {
		flag, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && flag != "help" && !strings.Contains(help, "-"+flag) {
			return fmt.Errorf("%s does not know the flag %s", filepath.Base(program), arg)
		}
	}
	return nil
}
