// SPDX-License-Identifier: Apache-2.0

// Command manager runs the tuning-operator: it turns TuningJobs into Jobs that fetch, train and push.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/manager"
	"kaito.sh/shared/trust"
	"kaito.sh/tuning-operator/internal/controller"
)

// scrapeInterval is how old the progress in a status may be: what people look at, at a write for each TuningJob.
const scrapeInterval = 15 * time.Second

func main() { os.Exit(run()) }

func run() int {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), tuningv1alpha1.AddToScheme(scheme)); err != nil {
		fmt.Fprintln(os.Stderr, "tuning-operator:", err)
		return 1
	}
	var options controller.Options
	var interval time.Duration
	return manager.Main(manager.Options{
		Name:       "tuning-operator",
		Short:      "Turns TuningJobs into Jobs that fetch, train and push.",
		Scheme:     scheme,
		Cache:      controller.CacheOptions(),
		Namespaced: true,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&options.Job.RunnerImage, "runner-image", "", "image of the runner, which fetches and pushes (required)")
			f.StringVar(&options.Job.TrainerImage, "trainer-image", "", "image of the trainer (required)")
			f.BoolVar(
				&options.Job.AllowPrivateSources, "allow-private-sources", false,
				"let TuningJobs fetch from private, loopback and link-local addresses, and by http",
			)
			f.StringVar(
				&options.Job.ModelHub,
				"model-hub",
				"",
				"where models and datasets come from, a mirror of HuggingFace; empty: https://huggingface.co",
			)
			f.StringVar(&options.Job.Authorities, "ca-config-map", "", trust.Usage)
			f.StringVar(
				&options.CheckpointClass, "checkpoint-storage-class", "",
				"storage class of claims for checkpoints; empty: the cluster's default, and the pod's own disk where there is none; "+controller.ClassNone+": always the pod's own disk",
			)
			f.StringVar(&options.Job.CheckpointSize, "checkpoint-size", "20Gi", "size of claims for checkpoints")
			f.DurationVar(
				&interval, "progress-interval", scrapeInterval, "how often running pods are asked how far they are; 0: never",
			)
		},
		Setup: func(ctx context.Context, mgr ctrl.Manager) error {
			if err := check(options); err != nil {
				return err
			}
			m, err := controller.NewMetrics(metrics.Registry)
			if err != nil {
				return err
			}
			return controller.Setup(ctx, mgr, clock.RealClock{}, m, interval, options)
		},
	})
}

func check(o controller.Options) error {
	for flag, value := range map[string]string{"--runner-image": o.Job.RunnerImage, "--trainer-image": o.Job.TrainerImage} {
		if value == "" {
			return fmt.Errorf("%s is empty: name the image that goes with this version", flag)
		}
	}
	if _, err := resource.ParseQuantity(o.Job.CheckpointSize); err != nil {
		return fmt.Errorf("--checkpoint-size is %q, a quantity such as 20Gi is needed: %w", o.Job.CheckpointSize, err)
	}
	return nil
}
