// SPDX-License-Identifier: Apache-2.0

// Command rbacreport says which rights the operators have and no call of the end-to-end suites has needed. It reads
// what the suites' stacks have left in a folder (KAITO_RBAC_CALLS), and fails when a right is neither used nor kept for
// a reason.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kaito.sh/e2e/rights"
	"kaito.sh/e2e/stack"
)

func main() {
	root := flag.String("root", ".", "the repository's root")
	calls := flag.String(
		"calls", os.Getenv(rights.CallsFolder), "folder of the calls that stacks have left; $"+rights.CallsFolder,
	)
	rare := flag.Int("rare", 0, "list the rights, too, that no more than so many stacks have used; 0 lists none")
	flag.Parse()
	code, err := report(context.Background(), os.Stdout, *root, *calls, *rare)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "rbacreport:", err)
		code = 1
	}
	os.Exit(code)
}

// report returns the exit code: 1 if a role needs a change.
func report(ctx context.Context, out io.Writer, root, calls string, rare int) (code int, err error) {
	if calls == "" {
		return 1, fmt.Errorf("--calls is empty: name the folder that $%s named when the suites ran", rights.CallsFolder)
	}
	for _, o := range stack.Operators {
		objects, err := stack.Kustomize(ctx, root, filepath.Join(string(o), "config", "default"))
		if err != nil {
			return 1, err
		}
		allowed, err := rights.Of(objects, "Role", "ClusterRole")
		if err != nil {
			return 1, err
		}
		used, stacks, err := rights.Load(calls, string(o))
		if err != nil {
			return 1, err
		}
		if stacks == 0 {
			return 1, fmt.Errorf(
				"no calls of %s in %s: run the end-to-end suites with %s=%s first", o, calls, rights.CallsFolder, calls,
			)
		}
		unused, stale := rights.Unused(string(o), allowed, used)
		_, _ = fmt.Fprintf(
			out, "%s: %d rights, used in %d stacks; %d that no call needed\n", o, len(allowed), stacks, len(unused),
		)
		for _, r := range rights.Rare(used, rare) {
			_, _ = fmt.Fprintf(out, "  %s: used in %d\n", r, used[r])
		}
		for _, r := range unused {
			code = 1
			_, _ = fmt.Fprintf(
				out, "  %s: no call needs it: take it out of the markers, or give a reason in e2e/rights/kept.go\n", r,
			)
		}
		for _, r := range stale {
			code = 1
			_, _ = fmt.Fprintf(out, "  %s: kept for a reason in e2e/rights/kept.go, and no role has it\n", r)
		}
	}
	return code, nil
}
