// SPDX-License-Identifier: Apache-2.0

// Command manager runs the tuning-operator: it turns TuningJobs into Jobs that fetch, train and push.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"kaito.sh/shared/catalog"
	"kaito.sh/shared/manager"
	"kaito.sh/tuning-operator/internal/scheme"
	"kaito.sh/tuning-operator/internal/tuningjob"
	// +kubebuilder:scaffold:imports
)

const name = "tuning-operator"

func main() { os.Exit(run()) }

func run() int {
	scheme, err := scheme.New()
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	// +kubebuilder:scaffold:scheme
	var options tuningjob.Options
	return manager.Main(manager.Options{
		Name:       name,
		Short:      "Turns TuningJobs into Jobs that fetch, train and push.",
		Scheme:     scheme,
		Cache:      tuningjob.CacheOptions(),
		Namespaced: true,
		Flags:      options.AddFlags,
		Setup: func(ctx context.Context, mgr ctrl.Manager) error {
			models, err := catalog.Load()
			if err != nil {
				return err
			}
			counters, err := tuningjob.NewMetrics(metrics.Registry)
			if err != nil {
				return err
			}
			r, err := tuningjob.New(tuningjob.Config{
				Client:  mgr.GetClient(),
				Live:    mgr.GetAPIReader(),
				Catalog: models,
				Events:  mgr.GetEventRecorder(name),
				Clock:   clock.RealClock{},
				Metrics: counters,
				Options: options,
			})
			if err != nil {
				return err
			}
			// +kubebuilder:scaffold:builder
			return r.SetupWithManager(ctx, mgr)
		},
	})
}
