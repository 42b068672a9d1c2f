// SPDX-License-Identifier: Apache-2.0

// gpu-provisioner makes GPU nodes in AKS agent pools for Machines and NodeClaims.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/cloudprovider"
	"kaito.sh/gpu-provisioner/internal/controller"
	"kaito.sh/gpu-provisioner/internal/controller/machine"
	"kaito.sh/gpu-provisioner/internal/pool"
	"kaito.sh/gpu-provisioner/internal/quota"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/manager"
)

const name = "gpu-provisioner"

// flags are the operator's own.
type flags struct {
	azureConfig     string
	namespace       string
	nodeClass       string
	maxNodesPerPool int
	callRate        float64
	launchTimeout   time.Duration
	gpuReadyTimeout time.Duration
	settings        pool.Settings
	intervals       pool.Intervals
}

func (f *flags) add(fs *flag.FlagSet) {
	fs.StringVar(
		&f.azureConfig, "azure-config", azure.DefaultConfigPath,
		"file that names the cloud, the subscription, the resource group and the AKS cluster",
	)
	fs.Float64Var(
		&f.callRate, "azure-call-rate", 1,
		"factor on the documented rates of calls to Azure, which are the subscription's: less than 1 leaves room for other programs",
	)
	fs.StringVar(
		&f.namespace, "namespace", "", "namespace of the operator's own ConfigMaps; empty: POD_NAMESPACE or the pod's own",
	)
	fs.StringVar(&f.nodeClass, "default-node-class", "default", "KaitoNodeClass of a Machine that names none")
	fs.IntVar(&f.maxNodesPerPool, "max-nodes-per-pool", 100, "machines in one agent pool at most; 1: one pool a node")
	fs.DurationVar(&f.launchTimeout, "launch-timeout", 40*time.Minute, "how long a claim may wait for its machine")
	fs.DurationVar(
		&f.gpuReadyTimeout, "gpu-ready-timeout", 15*time.Minute, "how long a Ready node may take to report its GPUs",
	)
	fs.DurationVar(
		&f.settings.Gather, "gather", time.Second,
		"how long to wait for more claims before asking Azure; at most five times that",
	)
	fs.DurationVar(
		&f.settings.Patience, "patience", 2*time.Minute,
		"how long claims wait for a pool that is being written to before another pool is opened",
	)
	fs.DurationVar(&f.settings.Grace, "surplus-grace", time.Minute, "how long a machine that no claim names is left alone")
	fs.DurationVar(
		&f.settings.OperationTimeout, "operation-timeout", 30*time.Minute,
		"how long Azure may take to bring machines before the request is aborted",
	)
	fs.DurationVar(
		&f.settings.JoinTimeout, "node-join-timeout", 12*time.Minute,
		"how long a machine may take to become a Node; less than core's own 15m",
	)
	fs.DurationVar(
		&f.intervals.Active, "refresh-active", 10*time.Second,
		"age at which the list of machines is renewed while something is going on",
	)
	fs.DurationVar(&f.intervals.Idle, "refresh-idle", time.Minute, "age at which it is renewed while nothing is")
}

func main() {
	f := &flags{settings: pool.Settings{MaxPools: maxPools}}
	os.Exit(manager.Main(manager.Options{
		Name:   name,
		Short:  "Makes GPU nodes in AKS agent pools for Machines and NodeClaims.",
		Scheme: newScheme(),
		Flags:  f.add,
		Setup:  f.setup,
	}))
}

// maxPools is AKS's limit of agent pools in a cluster (https://learn.microsoft.com/azure/aks/quotas-skus-regions).
const maxPools = 100

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	must(clientgoscheme.AddToScheme(scheme))
	must(karpenterv1alpha5.AddToScheme(scheme))
	must(nodeclassv1alpha1.AddToScheme(scheme))
	// Karpenter adds its types to client-go's global scheme and has no function that adds them to another.
	karpenter := schema.GroupVersion{Group: karpapis.Group, Version: "v1"}
	scheme.AddKnownTypes(
		karpenter, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{}, &karpv1.NodePool{}, &karpv1.NodePoolList{},
	)
	metav1.AddToGroupVersion(scheme, karpenter)
	return scheme
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (f *flags) setup(ctx context.Context, mgr ctrl.Manager) error {
	if err := f.valid(); err != nil {
		return err
	}
	config, err := azure.LoadConfig(f.azureConfig, os.Getenv)
	if err != nil {
		return err
	}
	namespace, err := f.ownNamespace()
	if err != nil {
		return err
	}
	loaded, err := catalog.Load()
	if err != nil {
		return fmt.Errorf("loading the catalogue of VM sizes: %w", err)
	}
	clk := clock.RealClock{}
	arm, err := azure.NewARM(config, azure.NewLimits(clk, f.callRate), azure.NewMetrics(metrics.Registry))
	if err != nil {
		return err
	}
	cluster, err := controller.ClusterUID(ctx, mgr.GetAPIReader())
	if err != nil {
		return err
	}
	arm.Serve(cluster)
	if err := controller.Index(ctx, mgr); err != nil {
		return err
	}
	controller.SetLaunchTimeout(f.launchTimeout)

	known := sizes{catalog: loaded}
	cache := azure.NewCache(arm, clk)
	engine := f.engine(mgr, namespace, arm, cache, known, clk)
	provider := cloudprovider.New(cloudprovider.Options{
		Engine: engine, Views: cache, Catalog: known, Clock: clk,
		MaxAge: max(10*time.Minute, 3*f.intervals.Idle), // a hundred pools are read in 200 seconds
	})
	if err := addIdentity(mgr, arm.Identity(clk), engine); err != nil {
		return err
	}
	return f.controllers(ctx, mgr, engine, provider, clk)
}

// addIdentity has /readyz tell an identity that cannot be used, and the engine try again when it can.
func addIdentity(mgr ctrl.Manager, identity *azure.Identity, engine *pool.Engine) error {
	identity.OnMended(engine.Retry)
	if err := mgr.Add(identity); err != nil {
		return fmt.Errorf("watching the identity: %w", err)
	}
	if err := mgr.AddReadyzCheck("identity", identity.Ready); err != nil {
		return fmt.Errorf("adding the identity to /readyz: %w", err)
	}
	return nil
}

func (f *flags) engine(
	mgr ctrl.Manager, namespace string, arm *azure.ARM, cache *azure.Cache, known sizes, clk clock.PassiveClock,
) *pool.Engine {
	records := func(name string) pool.Records {
		return pool.Records{Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: namespace, Name: name}
	}
	return pool.NewEngine(pool.Options{
		Client: mgr.GetClient(), Operations: records(pool.OperationsConfigMap), Offerings: records(pool.OfferingsConfigMap),
		Azure: arm, Cache: cache, Preflight: quota.NewPreflight(arm, clk),
		Recorder: mgr.GetEventRecorderFor(name), //nolint:staticcheck // as core's, see controller.AddCore
		Clock:    clk, Metrics: pool.NewMetrics(metrics.Registry), Settings: f.settings, Intervals: f.intervals,
		MaxPerPool: f.maxNodesPerPool, Manages: manages, ClassOf: pool.Classes{Client: mgr.GetClient()}.Of,
		SizeOf: func(size string) (pool.Size, bool) {
			s, ok := known.Size(size)
			return pool.Size{VCPUs: s.VCPUs, Family: s.Family}, ok
		},
	})
}

func (f *flags) controllers(
	ctx context.Context, mgr ctrl.Manager, engine *pool.Engine, provider *cloudprovider.Provider, clk clock.Clock,
) error {
	recorder := mgr.GetEventRecorderFor(name) //nolint:staticcheck // as core's, see controller.AddCore
	if err := controller.AddCore(ctx, mgr, provider, clk); err != nil {
		return err
	}
	if err := (&controller.Pools{Engine: engine, Provider: provider}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the pools controller: %w", err)
	}
	if err := (&controller.DefaultNodeClass{Client: mgr.GetClient(), Name: f.nodeClass}).SetupWithManager(
		mgr,
	); err != nil {
		return fmt.Errorf("adding the default node class: %w", err)
	}
	if err := (&controller.NodeClasses{Client: mgr.GetClient()}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the node class controller: %w", err)
	}
	accelerators := &controller.Accelerators{
		Client:   mgr.GetClient(),
		Provider: provider,
		Clock:    clk,
		Recorder: recorder,
		Timeout:  f.gpuReadyTimeout,
	}
	if err := accelerators.SetupWithManager(mgr, metrics.Registry); err != nil {
		return fmt.Errorf("adding the accelerator controller: %w", err)
	}
	if err := (&controller.Phases{Client: mgr.GetClient(), Provider: provider, Clock: clk}).SetupWithManager(
		mgr, metrics.Registry,
	); err != nil {
		return fmt.Errorf("adding the phases controller: %w", err)
	}
	if err := (&controller.Rejoins{Client: mgr.GetClient()}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the rejoin controller: %w", err)
	}
	machines := &machine.Reconciler{Client: mgr.GetClient(), Clock: clk, Recorder: recorder, NodeClass: f.nodeClass}
	if err := machines.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the machine controller: %w", err)
	}
	return nil
}

// manages says whether a claim is of our kind of node class.
func manages(claim *karpv1.NodeClaim) bool {
	ref := claim.Spec.NodeClassRef
	return ref != nil && ref.Group == nodeclassv1alpha1.GroupVersion.Group && ref.Kind == "KaitoNodeClass"
}

func (f *flags) valid() error {
	if f.maxNodesPerPool < 1 || f.maxNodesPerPool > 1000 {
		return fmt.Errorf("--max-nodes-per-pool is %d; allowed: 1 to 1000", f.maxNodesPerPool)
	}
	if f.callRate <= 0 || f.callRate > 100 {
		return fmt.Errorf("--azure-call-rate is %g; allowed: more than 0, to 100", f.callRate)
	}
	for _, positive := range []struct {
		name string
		d    time.Duration
	}{
		{"launch-timeout", f.launchTimeout}, {"gpu-ready-timeout", f.gpuReadyTimeout}, {"operation-timeout", f.settings.OperationTimeout},
		{"node-join-timeout", f.settings.JoinTimeout}, {"refresh-active", f.intervals.Active}, {"refresh-idle", f.intervals.Idle},
	} {
		if positive.d <= 0 {
			return fmt.Errorf("--%s is %s; allowed: more than 0", positive.name, positive.d)
		}
	}
	if f.settings.JoinTimeout >= pool.CoreRegistrationTimeout {
		return fmt.Errorf(
			"--node-join-timeout is %s; allowed: less than %s, after which core gives the claim up without a reason",
			f.settings.JoinTimeout, pool.CoreRegistrationTimeout,
		)
	}
	return nil
}

func (f *flags) ownNamespace() (string, error) {
	if f.namespace != "" {
		return f.namespace, nil
	}
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns, nil
	}
	raw, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return "", fmt.Errorf(
			"--namespace is empty, POD_NAMESPACE too, and this is not a pod; set --namespace to the namespace of the operator's ConfigMaps",
		)
	}
	return strings.TrimSpace(string(raw)), nil
}
