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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/controllers/node/health"
	nodehydration "sigs.k8s.io/karpenter/pkg/controllers/node/hydration"
	"sigs.k8s.io/karpenter/pkg/controllers/node/termination"
	"sigs.k8s.io/karpenter/pkg/controllers/node/termination/terminator"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/garbagecollection"
	nodeclaimhydration "sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/hydration"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeclaim/lifecycle"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/state/nodepoolhealth"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/cloudprovider"
	"kaito.sh/gpu-provisioner/internal/controller"
	"kaito.sh/gpu-provisioner/internal/controller/machine"
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/gpu-provisioner/internal/pool"
	"kaito.sh/gpu-provisioner/internal/quota"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/catalog"
)

// heldClock stands still; core sleeps after a write, so that its cache can catch up, which here is decided by the
// command.
type heldClock struct{ *clocktesting.FakeClock }

func (heldClock) Sleep(time.Duration) {}

var _ clock.Clock = heldClock{}

type stepper struct {
	clock        heldClock
	cache        *snapshot
	engine       *pool.Engine
	classes      *controller.NodeClasses
	machines     *machine.Reconciler
	accelerators *controller.Accelerators
	rejoins      *controller.Rejoins
	lifecycle    *lifecycle.Controller
	termination  *termination.Controller
	garbage      *garbagecollection.Controller
	health       *health.Controller
	claimLabels  *nodeclaimhydration.Controller
	nodeLabels   *nodehydration.Controller
}

func newStepper(ctx context.Context, f *flags, now time.Time) (*stepper, error) {
	config, err := azure.LoadConfig(f.azureConfig, os.Getenv)
	if err != nil {
		return nil, err
	}
	loaded, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("loading the catalogue of VM sizes: %w", err)
	}
	s := &stepper{clock: heldClock{clocktesting.NewFakeClock(now)}}
	arm, err := azure.NewARM(config, azure.NewLimits(s.clock, 1), azure.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		return nil, err
	}
	// JSON, since the test reads along; no limit, since the clock stands still.
	direct, err := client.New(
		&rest.Config{Host: f.api, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}},
		client.Options{Scheme: newScheme()},
	)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	s.cache = &snapshot{Client: direct}
	s.compose(f, arm, sizes{loaded})
	return s, s.cache.sync(ctx)
}

// compose makes the controllers that cmd/main.go composes, but for expiration and consistency, which no claim of ours
// needs.
func (s *stepper) compose(f *flags, arm *azure.ARM, known sizes) {
	views := azure.NewCache(arm, s.clock)
	silent := &record.FakeRecorder{}
	records := func(name string) pool.Records {
		return pool.Records{Reader: s.cache.Client, Writer: s.cache.Client, Namespace: f.namespace, Name: name}
	}
	s.engine = pool.NewEngine(pool.Options{
		Client:     s.cache,
		Operations: records(pool.OperationsConfigMap),
		Offerings:  records(pool.OfferingsConfigMap),
		Azure:      arm,
		Cache:      views,
		Preflight:  quota.NewPreflight(arm, s.clock),
		Recorder:   silent,
		Clock:      s.clock,
		Metrics:    pool.NewMetrics(prometheus.NewRegistry()),
		Settings:   f.settings,
		Intervals:  f.intervals,
		MaxPerPool: f.maxNodesPerPool,
		Manages:    func(*karpv1.NodeClaim) bool { return true },
		ClassOf:    pool.Classes{Client: s.cache}.Of,
		SizeOf: func(size string) (pool.Size, bool) {
			known, ok := known.Size(size)
			return pool.Size{VCPUs: known.VCPUs, Family: known.Family}, ok
		},
	})
	provider := cloudprovider.New(
		cloudprovider.Options{Engine: s.engine, Views: views, Catalog: known, Clock: s.clock, MaxAge: 10 * time.Minute},
	)
	s.classes = &controller.NodeClasses{Client: s.cache}
	s.machines = &machine.Reconciler{Client: s.cache, Clock: s.clock, Recorder: silent, NodeClass: "default"}
	s.rejoins = &controller.Rejoins{Client: s.cache}
	s.accelerators = &controller.Accelerators{
		Client:   s.cache,
		Provider: provider,
		Clock:    s.clock,
		Recorder: silent,
		Timeout:  f.gpuReadyTimeout,
	}
	controller.SetLaunchTimeout(40 * time.Minute)
	recorder := cloudprovider.Events(events.NewRecorder(silent))
	s.lifecycle = lifecycle.NewController(s.clock, s.cache, provider, recorder, nodepoolhealth.NewState(), nil)
	s.termination = termination.NewController(
		s.clock, s.cache, provider,
		terminator.NewTerminator(s.clock, s.cache, terminator.NewQueue(s.cache, recorder), recorder), recorder,
	)
	s.garbage = garbagecollection.NewController(s.clock, s.cache, provider)
	s.claimLabels, s.nodeLabels = nodeclaimhydration.NewController(s.cache, provider), nodehydration.NewController(
		s.cache, provider,
	)
	s.health = health.NewController(s.cache, provider, s.clock, recorder)
}

// round runs the steps of a command.
func (s *stepper) round(ctx context.Context, c command) (out result) {
	s.clock.SetTime(c.Now)
	ctx = controller.CoreOptions().ToContext(ctx)
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
			failed(step, fmt.Errorf("no such step"))
			continue
		}
		failed(step, run(ctx))
	}
	return out
}

// steps are each controller over all its objects, in the order of their names.
func (s *stepper) steps() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"classes": func(ctx context.Context) error {
			return each(ctx, s.cache, &nodeclassv1alpha1.KaitoNodeClassList{}, func(c *nodeclassv1alpha1.KaitoNodeClass) error {
				_, err := s.classes.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(c)})
				return err
			})
		},
		"machines": func(ctx context.Context) error {
			return each(ctx, s.cache, &karpenterv1alpha5.MachineList{}, func(m *karpenterv1alpha5.Machine) error {
				_, err := s.machines.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(m)})
				return err
			})
		},
		"labels": func(ctx context.Context) error {
			return errors.Join(
				each(ctx, s.cache, &karpv1.NodeClaimList{}, func(c *karpv1.NodeClaim) error {
					_, err := s.claimLabels.Reconcile(ctx, c)
					return err
				}),
				each(ctx, s.cache, &corev1.NodeList{}, func(n *corev1.Node) error {
					_, err := s.nodeLabels.Reconcile(ctx, n)
					return err
				}))
		},
		"claims": func(ctx context.Context) error {
			return each(ctx, s.cache, &karpv1.NodeClaimList{}, func(c *karpv1.NodeClaim) error {
				_, err := s.lifecycle.Reconcile(ctx, c)
				return err
			})
		},
		"pools": func(ctx context.Context) error {
			_, err := s.engine.Pass(ctx)
			return err
		},
		"nodes": func(ctx context.Context) error {
			return each(ctx, s.cache, &corev1.NodeList{}, func(n *corev1.Node) error {
				_, err := s.termination.Reconcile(ctx, n)
				return err
			})
		},
		"rejoins": func(ctx context.Context) error {
			return each(ctx, s.cache, &corev1.NodeList{}, func(n *corev1.Node) error {
				_, err := s.rejoins.Reconcile(ctx, n)
				return err
			})
		},
		"health": func(ctx context.Context) error {
			return each(ctx, s.cache, &corev1.NodeList{}, func(n *corev1.Node) error {
				_, err := s.health.Reconcile(ctx, n)
				return err
			})
		},
		"accelerators": func(ctx context.Context) error {
			return each(ctx, s.cache, &karpv1.NodeClaimList{}, func(c *karpv1.NodeClaim) error {
				_, err := s.accelerators.Reconcile(ctx, c)
				return err
			})
		},
		"garbage": func(ctx context.Context) error {
			_, err := s.garbage.Reconcile(ctx)
			return err
		},
	}
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, karpenterv1alpha5.AddToScheme, nodeclassv1alpha1.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	karpenter := schema.GroupVersion{Group: karpapis.Group, Version: "v1"}
	scheme.AddKnownTypes(
		karpenter, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{}, &karpv1.NodePool{}, &karpv1.NodePoolList{},
	)
	metav1.AddToGroupVersion(scheme, karpenter)
	return scheme
}

// sizes is the catalogue in the provisioner's terms, without prices.
type sizes struct{ *catalog.Catalog }

func (s sizes) Size(name string) (offering.Size, bool) {
	size, err := s.Catalog.Size(name)
	if err != nil {
		return offering.Size{}, false
	}
	return offering.Size{
		Name:      size.Name,
		GPUs:      int64(size.GPUs),
		VCPUs:     int64(size.VCPUs),
		MemoryGiB: int64(size.RAMGiB),
		Family:    size.QuotaFamily,
	}, true
}

func (s sizes) Sizes() []offering.Size {
	var out []offering.Size
	for _, size := range s.Catalog.Sizes() {
		known, _ := s.Size(size.Name)
		out = append(out, known)
	}
	return out
}

func (sizes) Price(string, string, string) float64 { return 0 }
