// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
	"kaito.sh/gpu-provisioner/internal/metric"
	"kaito.sh/gpu-provisioner/internal/quota"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// fixture is an engine with a fake API server, an Azure in memory, and a fake clock.
type fixture struct {
	*Engine
	t      *testing.T
	azure  *azuretest.Memory
	clock  *testclock.FakeClock
	client client.Client
	writes int // to the API server
	gauges *prometheus.Registry
	class  Class
}

func newFixture(t *testing.T) *fixture {
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	scheme.AddKnownTypes(
		schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{},
	)
	f := &fixture{t: t, azure: azuretest.New(), clock: testclock.NewFakeClock(start), class: ubuntu}
	f.client = fake.NewClientBuilder().
		WithScheme(scheme).
		WithStatusSubresource(&karpv1.NodeClaim{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				f.writes++
				return c.Create(ctx, o, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				f.writes++
				return c.Update(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				f.writes++
				return c.Patch(ctx, o, p, opts...)
			},
		}).
		Build()
	f.restart()
	return f
}

// restart starts a new process: only Azure and the API server keep their state.
func (f *fixture) restart() {
	records := func(name string) Records {
		return Records{Reader: f.client, Writer: f.client, Namespace: "kaito", Name: name}
	}
	f.gauges = prometheus.NewRegistry()
	f.Engine = NewEngine(EngineConfig{
		Client:     f.client,
		Operations: records(OperationsConfigMap),
		Offerings:  records(OfferingsConfigMap),
		Azure:      f.azure,
		Cache:      azure.NewCache(f.azure, f.clock),
		Preflight:  quota.NewPreflight(f.azure, f.clock),
		Events:     events.NewFakeRecorder(100),
		Clock:      f.clock,
		Metrics:    NewMetrics(metric.Registerer(f.gauges)),
		MaxPerPool: 100,
		Settings: Settings{
			Gather: time.Second, Patience: 2 * time.Minute, Grace: time.Minute, OperationTimeout: 20 * time.Minute,
			JoinTimeout: 10 * time.Minute, MaxPools: 100,
		},
		Intervals: Intervals{Active: 10 * time.Second, Idle: time.Minute},
		Manages:   func(*karpv1.NodeClaim) bool { return true },
		ClassOf:   func(context.Context, *karpv1.NodeClaim) (Class, error) { return f.class, nil },
		SizeOf:    func(string) (Size, bool) { return Size{VCPUs: 24, Family: "famA"}, true },
	})
}

func (f *fixture) ask(names ...string) {
	for _, name := range names {
		c := claimWith(in(corev1.LabelInstanceTypeStable, a100))
		c.Name, c.UID = name, types.UID("uid-"+name)
		c.CreationTimestamp = metav1.NewTime(f.clock.Now())
		c.Finalizers = []string{karpv1.TerminationFinalizer}
		c.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
		require.NoError(f.t, f.client.Create(f.t.Context(), c))
	}
}

func (f *fixture) claim(name string) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{}
	require.NoError(f.t, f.client.Get(f.t.Context(), client.ObjectKey{Name: name}, c))
	return c
}

// pass moves the clock and runs passes until two in a row write nothing, because the first may only see a burst.
func (f *fixture) pass() {
	f.t.Helper()
	f.clock.Step(11 * time.Second)
	for quiet, n := 0, 0; quiet < 2; n++ {
		require.Less(f.t, n, 10, "still writing")
		before := len(f.azure.Calls()) + f.writes
		_, err := f.Pass(f.t.Context())
		require.NoError(f.t, err)
		quiet++
		if len(f.azure.Calls())+f.writes != before {
			quiet = 0
		}
		f.clock.Step(2 * time.Second)
	}
}

// gathered runs a pass that sees the burst, and ends the burst.
func (f *fixture) gathered() {
	_, err := f.Pass(f.t.Context())
	require.NoError(f.t, err)
	f.clock.Step(time.Second)
}

func (f *fixture) bound() map[string]string {
	var list karpv1.NodeClaimList
	require.NoError(f.t, f.client.List(f.t.Context(), &list))
	out := map[string]string{}
	for i := range list.Items {
		if id := ProviderIDOf(&list.Items[i]); id != "" {
			out[list.Items[i].Name] = id
		}
	}
	return out
}

func (f *fixture) pools() []string { return f.azure.Names() }

// only returns the name of the only pool.
func (f *fixture) only() string {
	f.t.Helper()
	require.Len(f.t, f.pools(), 1)
	return f.pools()[0]
}

var noCapacity = &azure.Error{
	Reason:      karpenterv1alpha5.ReasonCapacityUnavailable,
	Class:       azure.ClassCapacity,
	Scope:       azure.ScopeOffering,
	Code:        "AllocationFailed",
	Message:     "no capacity",
	Remedy:      "another size",
	RememberFor: time.Hour,
}
