// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
)

// azCommands are what the pages ask of Azure's CLI, with the flags that each has. They were looked up in what `az …
// --help` of version 2.91 says: there is no Azure here, and the CLI is too large to be a part of the tests.
var azCommands = map[string][]string{
	"account show": {},
	"acr build":    {"--registry", "--image"},
	"acr create":   {"--name", "--resource-group", "--sku"},
	"acr login":    {"--name"},
	"aks create": {
		"--name",
		"--resource-group",
		"--location",
		"--node-count",
		"--node-vm-size",
		"--enable-oidc-issuer",
		"--enable-workload-identity",
		"--attach-acr",
		"--generate-ssh-keys",
	},
	"aks get-credentials": {"--name", "--resource-group"},
	"aks nodepool list":   {"-g", "--cluster-name"},
	"aks show":            {"--name", "--resource-group"},
	"group create":        {"--name", "--location"},
	"identity create":     {"--name", "--resource-group", "--location"},
	"identity federated-credential create": {
		"--name",
		"--identity-name",
		"--resource-group",
		"--issuer",
		"--audiences",
		"--subject",
	},
	"identity show":          {"--name", "--resource-group"},
	"role assignment create": {"--assignee-object-id", "--assignee-principal-type", "--role", "--scope"},
	"vm list-skus":           {"--location", "--size"},
	"vm list-usage":          {"--location"},
}

// azAnswer replaces an id, a name or an address that Azure would print.
const azAnswer = "00000000-0000-0000-0000-000000000000"

// az checks a command's name and flags, and prints a text in the requested format, which the page's next commands use.
func az(ctx context.Context, w *walk, _ interp.ExecHandlerFunc, args []string) error {
	first := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if first < 0 {
		first = len(args)
	}
	name := strings.Join(args[1:first], " ")
	flags, ok := azCommands[name]
	if !ok {
		return fmt.Errorf("az %s is not among %q, in e2e/docs/az_test.go", name, slices.Sorted(maps.Keys(azCommands)))
	}
	format := ""
	for i, arg := range args {
		if i == 0 || !strings.HasPrefix(arg, "-") {
			if arg == "" {
				return fmt.Errorf("az %s: an argument is empty", name)
			}
			continue
		}
		if !slices.Contains(append([]string{"-o", "--output", "--query"}, flags...), arg) {
			return fmt.Errorf("az %s has no flag %s; it has %q", name, arg, flags)
		}
		if (arg == "-o" || arg == "--output") && i+1 < len(args) {
			format = args[i+1]
		}
	}
	if file := args[len(args)-1]; first < len(args) && !strings.HasPrefix(file, "-") &&
		!strings.HasPrefix(args[len(args)-2], "-") {
		if _, err := os.Stat(filepath.Join(interp.HandlerCtx(ctx).Dir, file)); err != nil {
			return err // an argument of no flag is a folder
		}
	}
	var err error
	switch format {
	case "tsv":
		_, err = fmt.Fprintln(interp.HandlerCtx(ctx).Stdout, azAnswer)
	case "json":
		_, err = fmt.Fprintln(interp.HandlerCtx(ctx).Stdout, "[]")
	}
	if err != nil {
		return err
	}
	return w.notRun("az: its names, flags and variables are looked at")
}
