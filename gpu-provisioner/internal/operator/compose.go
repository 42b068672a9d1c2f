// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/cloudprovider"
	"kaito.sh/gpu-provisioner/internal/karpenter"
	"kaito.sh/gpu-provisioner/internal/machine"
	"kaito.sh/gpu-provisioner/internal/nodeclaim/accelerator"
	"kaito.sh/gpu-provisioner/internal/nodeclaim/phase"
	"kaito.sh/gpu-provisioner/internal/nodeclaim/rejoin"
	"kaito.sh/gpu-provisioner/internal/nodeclass"
	"kaito.sh/gpu-provisioner/internal/pool"
	"kaito.sh/gpu-provisioner/internal/quota"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/catalog"
)

// Deps are what the operator is composed of.
type Deps struct {
	Options Options
	// Client reads from a cache.
	Client client.Client
	// Reader and Writer access the operator's ConfigMaps in Namespace. Reader reads past the cache.
	Reader    client.Reader
	Writer    client.Writer
	Namespace string
	Azure     interface {
		pool.Azure
		quota.Reader
	}
	Catalog *catalog.Catalog
	Events  events.EventRecorder
	// KarpenterEvents records the events of Karpenter's core.
	KarpenterEvents record.EventRecorder
	Metrics         prometheus.Registerer
	Clock           clock.Clock
}

// Operator is the composed operator.
type Operator struct {
	Engine           *pool.Engine
	Karpenter        *karpenter.Controllers
	Pools            *pool.Reconciler
	Machines         *machine.Reconciler
	NodeClasses      *nodeclass.Reconciler
	DefaultNodeClass *nodeclass.Default
	Accelerators     *accelerator.Reconciler
	Phases           *phase.Reconciler
	Rejoins          *rejoin.Reconciler
}

// Compose returns the operator. It starts nothing and calls neither Azure nor the API server.
func Compose(d Deps) *Operator {
	known := sizes{catalog: d.Catalog}
	cache := azure.NewCache(d.Azure, d.Clock)
	engine := newEngine(&d, cache, known)
	provider := cloudprovider.New(cloudprovider.Config{
		Engine: engine, Views: cache, Catalog: known, Clock: d.Clock,
		// It takes 200 seconds to read a hundred pools.
		MaxAge: max(10*time.Minute, 3*d.Options.Intervals.Idle),
	})
	return &Operator{
		Engine: engine,
		Karpenter: karpenter.New(karpenter.Config{
			Client: d.Client, Provider: provider, Recorder: d.KarpenterEvents, Clock: d.Clock,
			LaunchTimeout: d.Options.LaunchTimeout,
		}),
		Pools: pool.New(pool.Config{Engine: engine, Provider: provider}),
		Machines: machine.New(machine.Config{
			Client: d.Client, Events: d.Events, Clock: d.Clock, NodeClass: d.Options.DefaultNodeClass,
		}),
		NodeClasses:      nodeclass.New(nodeclass.Config{Client: d.Client}),
		DefaultNodeClass: nodeclass.NewDefault(d.Client, d.Options.DefaultNodeClass),
		Accelerators: accelerator.New(accelerator.Config{
			Client: d.Client, Provider: provider, Events: d.Events, Metrics: d.Metrics, Clock: d.Clock,
			Timeout: d.Options.GPUReadyTimeout,
		}),
		Phases: phase.New(phase.Config{
			Client: d.Client, Provider: provider, Metrics: d.Metrics, Clock: d.Clock,
		}),
		Rejoins: rejoin.New(rejoin.Config{Client: d.Client}),
	}
}

func newEngine(d *Deps, cache *azure.Cache, known sizes) *pool.Engine {
	records := func(name string) pool.Records {
		return pool.Records{Reader: d.Reader, Writer: d.Writer, Namespace: d.Namespace, Name: name}
	}
	return pool.NewEngine(pool.EngineConfig{
		Client: d.Client, Operations: records(pool.OperationsConfigMap), Offerings: records(pool.OfferingsConfigMap),
		Azure: d.Azure, Cache: cache, Preflight: quota.NewPreflight(d.Azure, d.Clock), Events: d.Events, Clock: d.Clock,
		Metrics: pool.NewMetrics(d.Metrics), Settings: d.Options.Settings, Intervals: d.Options.Intervals,
		MaxPerPool: d.Options.MaxNodesPerPool, Manages: manages, ClassOf: pool.Classes{Client: d.Client}.Of,
		SizeOf: func(name string) (pool.Size, bool) {
			size, ok := known.Size(name)
			return pool.Size{VCPUs: size.VCPUs, Family: size.Family}, ok
		},
	})
}

// manages returns whether the claim's node class is a KaitoNodeClass.
func manages(claim *karpv1.NodeClaim) bool {
	ref := claim.Spec.NodeClassRef
	return ref != nil && ref.Group == nodeclassv1alpha1.GroupVersion.Group && ref.Kind == "KaitoNodeClass"
}

// SetupWithManager adds every controller to the manager.
func (o *Operator) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	for _, c := range []interface {
		SetupWithManager(context.Context, ctrl.Manager) error
	}{
		o.Karpenter, o.Pools, o.DefaultNodeClass, o.NodeClasses, o.Accelerators, o.Phases, o.Rejoins, o.Machines,
	} {
		if err := c.SetupWithManager(ctx, mgr); err != nil {
			return fmt.Errorf("adding %T: %w", c, err)
		}
	}
	return nil
}
