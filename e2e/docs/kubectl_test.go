// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"mvdan.cc/sh/v3/interp"

	"kaito.sh/shared/test/eventually"
)

// kubectl runs it on the page's cluster, save what needs a container or the internet. A watch is looked at and left.
func kubectl(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error {
	switch {
	case w.guest && has(args, "-k") && has(args, "apply"):
		return w.build(ctx, next, args[slices.Index(args, "-k")+1:])
	case w.guest && has(args, "-k"):
		return errors.New(
			"a page that removes operators needs a cluster of its own: name it in installing, in e2e/docs/docs_test.go",
		)
	case has(args, "exec", "run", "debug", "attach", "cp"):
		return w.notRun("a container: the pods here are simulated")
	case slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "https://") }):
		return w.notRun("a manifest on the internet")
	case has(args, "port-forward"):
		return w.forward(args)
	case has(args, "get") && has(args, "-w", "--watch"):
		return w.watch(ctx, next, args)
	}
	return next(ctx, args)
}

func has(args []string, words ...string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return slices.Contains(words, arg) })
}

// build only builds what would change an operator that other pages use at the same time.
func (w *walk) build(ctx context.Context, next interp.ExecHandlerFunc, folder []string) error {
	if err := next(ctx, slices.Concat([]string{"kubectl", "kustomize"}, folder)); err != nil {
		return err
	}
	return w.notRun("a kustomization, built: e2e/manifests applies it")
}

// watched is how long a page's watch is looked at.
const watched = time.Second

// watch runs a watch for a short time and stops it. It must print output until then.
func (w *walk) watch(ctx context.Context, next interp.ExecHandlerFunc, args []string) error {
	limited, cancel := context.WithTimeout(ctx, watched)
	defer cancel()
	if err := next(limited, args); err != nil && limited.Err() == nil {
		return err
	}
	if w.output.String() == "" {
		return errors.New("there is nothing to watch")
	}
	return nil
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) -> `)

// forward starts a port-forward on a free local port, until the page ends. curl uses that port.
func (w *walk) forward(args []string) error {
	var local string
	args = slices.Clone(args)
	for i, arg := range args {
		if match := regexp.MustCompile(`^(\d+):(\d+)$`).FindStringSubmatch(arg); match != nil {
			local, args[i] = match[1], ":"+match[2]
		}
	}
	if local == "" {
		return errors.New("a port-forward of a page names both ports, like 8080:80")
	}
	command := exec.CommandContext(w.until, w.folder.tools+"/kubectl", args[1:]...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.kubeconfig)
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	var errOut strings.Builder
	command.Stderr = &errOut
	if err := command.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if match := forwarding.FindStringSubmatch(lines.Text()); match != nil {
			w.mutex.Lock()
			defer w.mutex.Unlock()
			w.forwards[local] = match[1]
			w.cleanup = append(w.cleanup, func() { _ = command.Wait() }) // it ends with the page
			return nil
		}
	}
	return fmt.Errorf("%w: %s", command.Wait(), errOut.String())
}

var forwarded = regexp.MustCompile(`(?:localhost|127\.0\.0\.1):(\d+)`)

// curl asks what a port-forward leads to.
func curl(ctx context.Context, w *walk, next interp.ExecHandlerFunc, args []string) error {
	args = slices.Clone(args)
	for i, arg := range args {
		match := forwarded.FindStringSubmatch(arg)
		if match == nil {
			continue
		}
		address, err := w.forwardedTo(ctx, match[1])
		if err != nil {
			return err
		}
		args[i] = strings.Replace(arg, match[0], address, 1)
		return next(ctx, append(args, "--silent", "--show-error", "--fail-with-body"))
	}
	return w.notRun("an address inside a cluster, or on the internet")
}

// forwardedTo waits for a port-forward that the page has begun in the background.
func (w *walk) forwardedTo(ctx context.Context, port string) (address string, err error) {
	err = wait.PollUntilContextTimeout(ctx, eventually.StoryTick, eventually.Short, true, func(context.Context) (bool, error) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		address = w.forwards[port]
		return address != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("no port-forward leads to port %s", port)
	}
	return address, nil
}
