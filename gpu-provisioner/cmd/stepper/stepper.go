// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/operator"
	"kaito.sh/gpu-provisioner/internal/scheme"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/catalog"
)

// fixedClock has the time of the last command. Karpenter sleeps after a write until its cache catches up; here the
// command decides what the cache shows.
type fixedClock struct{ *clocktesting.FakeClock }

func (fixedClock) Sleep(time.Duration) {}

var _ clock.Clock = fixedClock{}

// stepper is the composed operator with a cache and a clock that commands control.
type stepper struct {
	*operator.Operator
	clock fixedClock
	cache *snapshot
}

func newStepper(ctx context.Context, f *flags, now time.Time) (*stepper, error) {
	config, err := azure.LoadConfig(f.AzureConfig, os.Getenv)
	if err != nil {
		return nil, err
	}
	loaded, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("loading the catalogue of VM sizes: %w", err)
	}
	clk := fixedClock{clocktesting.NewFakeClock(now)}
	arm, err := azure.NewARM(config, azure.NewLimits(clk, 1), azure.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		return nil, err
	}
	kinds, err := scheme.New()
	if err != nil {
		return nil, err
	}
	// The test reads the requests, so they are JSON. A rate limit would never recover, because the clock is fixed.
	direct, err := client.New(
		&rest.Config{Host: f.api, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}},
		client.Options{Scheme: kinds})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	cache := &snapshot{Client: direct}
	composed := operator.Compose(operator.Deps{
		Options: f.Options, Client: cache, Reader: direct, Writer: direct, Namespace: f.Namespace, Azure: arm,
		Catalog: loaded, Events: &events.FakeRecorder{}, KarpenterEvents: &record.FakeRecorder{},
		Metrics: prometheus.NewRegistry(), Clock: clk,
	})
	return &stepper{Operator: composed, clock: clk, cache: cache}, cache.sync(ctx)
}

// round runs the steps of a command. An error in one step does not stop the others.
func (s *stepper) round(ctx context.Context, c command) (out result) {
	s.clock.SetTime(c.Now)
	ctx = s.Karpenter.Context(ctx)
	failed := func(step string, err error) {
		if err != nil {
			ctrl.Log.Error(err, "Stepping", "step", step)
			out.Errors = append(out.Errors, step+": "+err.Error())
		}
	}
	s.cache.stale = c.Stale || c.Frozen
	if !c.Frozen {
		failed("sync", s.cache.sync(ctx))
	}
	for _, step := range c.Steps {
		run, ok := s.steps()[step]
		if !ok {
			failed(step, errors.New("unknown step"))
			continue
		}
		failed(step, run(ctx))
	}
	return out
}

// step reconciles all objects of one kind, sorted by name.
type step func(context.Context) error

// steps returns the steps by name. Karpenter's expiration and consistency controllers are left out: they change nothing
// for the claims of this operator.
func (s *stepper) steps() map[string]step {
	k := s.Karpenter
	labelClaims := each(s.cache, &karpv1.NodeClaimList{}, k.ClaimLabels.Reconcile)
	labelNodes := each(s.cache, &corev1.NodeList{}, k.NodeLabels.Reconcile)
	return map[string]step{
		"classes":  eachByName(s.cache, &nodeclassv1alpha1.KaitoNodeClassList{}, s.NodeClasses),
		"machines": eachByName(s.cache, &karpenterv1alpha5.MachineList{}, s.Machines),
		"labels": func(ctx context.Context) error {
			return errors.Join(labelClaims(ctx), labelNodes(ctx))
		},
		"claims": each(s.cache, &karpv1.NodeClaimList{}, k.Lifecycle.Reconcile),
		"pools": func(ctx context.Context) error {
			_, err := s.Engine.Pass(ctx)
			return err
		},
		"nodes":        each(s.cache, &corev1.NodeList{}, k.Termination.Reconcile),
		"rejoins":      each(s.cache, &corev1.NodeList{}, s.Rejoins.Reconcile),
		"health":       each(s.cache, &corev1.NodeList{}, k.Health.Reconcile),
		"accelerators": each(s.cache, &karpv1.NodeClaimList{}, s.Accelerators.Reconcile),
		"garbage": func(ctx context.Context) error {
			_, err := k.Garbage.Reconcile(ctx)
			return err
		},
	}
}

// each returns a step that calls a reconciler with every object of the list, and joins the errors.
func each[T client.Object](
	c client.Reader, list client.ObjectList, run func(context.Context, T) (reconcile.Result, error),
) step {
	return func(ctx context.Context) error {
		if err := c.List(ctx, list); err != nil {
			return err
		}
		var errs []error
		err := meta.EachListItem(list, func(o runtime.Object) error {
			_, err := run(ctx, o.(T))
			errs = append(errs, err)
			return nil
		})
		return errors.Join(append(errs, err)...)
	}
}

// eachByName is each for a reconciler that reads the object itself.
func eachByName(c client.Reader, list client.ObjectList, r reconcile.Reconciler) step {
	return each(c, list, func(ctx context.Context, o client.Object) (reconcile.Result, error) {
		return r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
	})
}
