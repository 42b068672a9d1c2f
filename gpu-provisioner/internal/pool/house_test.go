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
)

// house is an engine over an API server and an Azure in memory, and a clock that stands.
type house struct {
	*Engine
	t      *testing.T
	azure  *azuretest.Memory
	clock  *testclock.FakeClock
	client client.Client
	writes int // to the API server
	gauges *prometheus.Registry
	class  Class
}

func newHouse(t *testing.T) *house {
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	scheme.AddKnownTypes(
		schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{},
	)
	h := &house{t: t, azure: azuretest.New(), clock: testclock.NewFakeClock(start), class: ubuntu}
	h.client = fake.NewClientBuilder().
		WithScheme(scheme).
		WithStatusSubresource(&karpv1.NodeClaim{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				h.writes++
				return c.Create(ctx, o, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				h.writes++
				return c.Update(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				h.writes++
				return c.Patch(ctx, o, p, opts...)
			},
		}).
		Build()
	h.restart()
	return h
}

// restart is a new process: only Azure and the API server remember.
func (h *house) restart() {
	records := func(name string) Records {
		return Records{Reader: h.client, Writer: h.client, Namespace: "kaito", Name: name}
	}
	h.gauges = prometheus.NewRegistry()
	h.Engine = NewEngine(EngineConfig{
		Client:     h.client,
		Operations: records(OperationsConfigMap),
		Offerings:  records(OfferingsConfigMap),
		Azure:      h.azure,
		Cache:      azure.NewCache(h.azure, h.clock),
		Preflight:  quota.NewPreflight(h.azure, h.clock),
		Events:     events.NewFakeRecorder(100),
		Clock:      h.clock,
		Metrics:    NewMetrics(metric.Registerer(h.gauges)),
		MaxPerPool: 100,
		Settings: Settings{
			Gather: time.Second, Patience: 2 * time.Minute, Grace: time.Minute, OperationTimeout: 20 * time.Minute,
			JoinTimeout: 10 * time.Minute, MaxPools: 100,
		},
		Intervals: Intervals{Active: 10 * time.Second, Idle: time.Minute},
		Manages:   func(*karpv1.NodeClaim) bool { return true },
		ClassOf:   func(context.Context, *karpv1.NodeClaim) (Class, error) { return h.class, nil },
		SizeOf:    func(string) (Size, bool) { return Size{VCPUs: 24, Family: "famA"}, true },
	})
}

func (h *house) ask(names ...string) {
	for _, name := range names {
		c := claimWith(in(corev1.LabelInstanceTypeStable, a100))
		c.Name, c.UID = name, types.UID("uid-"+name)
		c.CreationTimestamp = metav1.NewTime(h.clock.Now())
		c.Finalizers = []string{karpv1.TerminationFinalizer}
		c.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
		require.NoError(h.t, h.client.Create(h.t.Context(), c))
	}
}

func (h *house) claim(name string) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{}
	require.NoError(h.t, h.client.Get(h.t.Context(), client.ObjectKey{Name: name}, c))
	return c
}

// pass lets some time go by and runs passes until two in a row write nothing: the first one may only have seen a burst.
func (h *house) pass() {
	h.t.Helper()
	h.clock.Step(11 * time.Second)
	for quiet, n := 0, 0; quiet < 2; n++ {
		require.Less(h.t, n, 10, "still writing")
		before := len(h.azure.Calls()) + h.writes
		_, err := h.Pass(h.t.Context())
		require.NoError(h.t, err)
		quiet++
		if len(h.azure.Calls())+h.writes != before {
			quiet = 0
		}
		h.clock.Step(2 * time.Second)
	}
}

// gathered lets the burst be seen and be over.
func (h *house) gathered() {
	_, err := h.Pass(h.t.Context())
	require.NoError(h.t, err)
	h.clock.Step(time.Second)
}

func (h *house) bound() map[string]string {
	var list karpv1.NodeClaimList
	require.NoError(h.t, h.client.List(h.t.Context(), &list))
	out := map[string]string{}
	for i := range list.Items {
		if id := ProviderIDOf(&list.Items[i]); id != "" {
			out[list.Items[i].Name] = id
		}
	}
	return out
}

func (h *house) pools() []string { return h.azure.Names() }

// only is the name of the one pool that there is.
func (h *house) only() string {
	h.t.Helper()
	require.Len(h.t, h.pools(), 1)
	return h.pools()[0]
}

var noCapacity = &azure.Error{
	Reason:      azure.ReasonCapacityUnavailable,
	Class:       azure.ClassCapacity,
	Scope:       azure.ScopeOffering,
	Code:        "AllocationFailed",
	Message:     "no capacity",
	Remedy:      "another size",
	RememberFor: time.Hour,
}
