// SPDX-License-Identifier: Apache-2.0

// Command workspace-operator reconciles Workspaces: it plans what a model runs on, gets nodes for it, tunes it when
// asked to, and serves it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/manager"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/watch"
	"kaito.sh/workspace-operator/internal/workspace"
	// +kubebuilder:scaffold:imports
)

func main() {
	os.Exit(run())
}

func run() int {
	scheme, err := scheme.New()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "workspace-operator:", err)
		return 1
	}
	// +kubebuilder:scaffold:scheme
	options := workspace.DefaultOptions()
	var overrides files
	return manager.Main(manager.Options{
		Name:       "workspace-operator",
		Short:      "Plans, places, tunes and serves the models of Workspaces.",
		Scheme:     scheme,
		Cache:      watch.CacheOptions(),
		Namespaced: true,
		Flags: func(fs *flag.FlagSet) {
			options.AddFlags(fs)
			fs.Var(&overrides, "catalog", "file of models, sizes, prices or engines that override the built-in catalogue, "+
				"for instance a mounted ConfigMap's key (repeatable)")
		},
		Setup: func(ctx context.Context, mgr ctrl.Manager) error {
			if err := options.Validate(); err != nil {
				return err
			}
			c, err := overrides.load()
			if err != nil {
				return err
			}
			operator := workspace.Operator{Options: options, Catalog: c, Registry: metrics.Registry, Clock: clock.RealClock{}}
			// +kubebuilder:scaffold:builder
			return operator.SetupWithManager(ctx, mgr)
		},
	})
}

// files are the values of a flag that may be given several times.
type files []string

func (f *files) String() string { return strings.Join(*f, ",") }

func (f *files) Set(path string) error {
	*f = append(*f, path)
	return nil
}

func (f *files) load() (*catalog.Catalog, error) {
	var documents [][]byte
	for _, path := range *f {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--catalog: %w", err)
		}
		documents = append(documents, text)
	}
	c, err := catalog.Load(documents...)
	if err != nil {
		return nil, fmt.Errorf("--catalog: %w", err)
	}
	return c, nil
}
