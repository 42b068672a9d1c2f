// SPDX-License-Identifier: Apache-2.0

// Command apireference writes the pages of docs/reference from what is generated from the Go types: the
// CustomResourceDefinitions, which have the comments, defaults and rules, and the constants beside the types, which
// name conditions and reasons.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// kinds are the pages, in the order in which a reader meets them.
var kinds = []kind{
	{"workspace.md", "kaito.sh_workspaces.yaml", "kaito/v1alpha1"},
	{"gpubudget.md", "kaito.sh_gpubudgets.yaml", ""},
	{"tuningjob.md", "tuning.kaito.sh_tuningjobs.yaml", "tuning/v1alpha1"},
	{"kaitonodeclass.md", "kaito.sh_kaitonodeclasses.yaml", "nodeclass/v1alpha1"},
	{"machine.md", "karpenter.sh_machines.yaml", "karpenter/v1alpha5"},
}

// kind is a page, the definition below shared/api/crds and the package below shared/api that it is made from; no
// package: the page has neither conditions nor reasons, since those of the package are another kind's.
type kind struct{ page, definition, types string }

func main() {
	root := flag.String("root", "../..", "the repository's root")
	flag.Parse()
	if err := run(*root); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "apireference:", err) // nowhere is left to say that this failed
		os.Exit(1)
	}
}

func run(root string) error {
	out := filepath.Join(root, "docs", "reference")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("making the folder for the pages: %w", err)
	}
	index := "# API reference\n\nWritten by `make generate` from the Go types in shared/api.\n\n| kind | | |\n|---|---|---|\n"
	for _, k := range kinds {
		definition, err := readDefinition(filepath.Join(root, "shared", "api", "crds", k.definition))
		if err != nil {
			return err
		}
		var constants []constant
		if k.types != "" {
			if constants, err = readConstants(filepath.Join(root, "shared", "api", k.types)); err != nil {
				return err
			}
		}
		page, err := render(definition, constants, hasRunbook(root))
		if err != nil {
			return fmt.Errorf("%s: %w", k.definition, err)
		}
		if err := os.WriteFile(filepath.Join(out, k.page), []byte(page), 0o644); err != nil {
			return fmt.Errorf("writing the page: %w", err)
		}
		stored, err := storedVersion(definition)
		if err != nil {
			return err
		}
		index += fmt.Sprintf(
			"| [%s](%s) | %s/%s | %s |\n", definition.Spec.Names.Kind, k.page, definition.Spec.Group, stored.Name,
			cell(firstSentence(stored.Schema.OpenAPIV3Schema.Description)),
		)
	}
	if err := os.WriteFile(filepath.Join(out, "README.md"), []byte(index), 0o644); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	return nil
}

// hasRunbook says whether a reason has a page.
func hasRunbook(root string) func(string) bool {
	return func(reason string) bool {
		_, err := os.Stat(filepath.Join(root, "docs", "runbooks", reason+".md"))
		return err == nil
	}
}
