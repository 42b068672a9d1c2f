package pool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
	"kaito.sh/gpu-provisioner/internal/quota"
)

const a100 = "Standard_NC24ads_A100_v4"

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
	scheme.AddKnownTypes(schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	h := &house{t: t, azure: azuretest.New(), clock: testclock.NewFakeClock(start), class: ubuntu}
	h.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&karpv1.NodeClaim{}).WithInterceptorFuncs(interceptor.Funcs{
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
	}).Build()
	h.restart()
	return h
}

// restart is a new process: only Azure and the API server remember.
func (h *house) restart() {
	records := func(name string) Records {
		return Records{Reader: h.client, Writer: h.client, Namespace: "kaito", Name: name}
	}
	h.gauges = prometheus.NewRegistry()
	h.Engine = NewEngine(Options{
		Client: h.client, Operations: records(OperationsConfigMap), Offerings: records(OfferingsConfigMap), Azure: h.azure,
		Cache: azure.NewCache(h.azure, h.clock), Preflight: quota.NewPreflight(h.azure, h.clock), Recorder: record.NewFakeRecorder(100),
		Clock: h.clock, Metrics: NewMetrics(h.gauges), MaxPerPool: 100,
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

var noCapacity = &azure.Error{Reason: azure.ReasonCapacityUnavailable, Class: azure.ClassCapacity, Scope: azure.ScopeOffering, Code: "AllocationFailed", Message: "no capacity", Remedy: "another size", RememberFor: time.Hour}

func TestThreeClaimsBecomeOnePutAndAreBoundWhenItEnds(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2", "c3")
	h.pass()
	h.pass()
	pool := h.only()
	assert.Equal(t, []string{"create " + pool + " 3"}, h.azure.Calls())
	assert.Empty(t, h.bound())
	w, ok := h.Waiting("uid-c1")
	require.True(t, ok)
	assert.Equal(t, ReasonLaunching, w.Reason)
	h.azure.End(pool, nil, 0)
	h.pass()
	assert.Len(t, h.bound(), 3)
	assert.Len(t, h.azure.Calls(), 1)
}

func TestAMachineIsBoundAsSoonAsAzureListsItThoughTheOperationStillRuns(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2")
	h.pass()
	pool := h.only()
	h.azure.Arrive(pool)
	h.pass()
	assert.Equal(t, map[string]string{"c1": azuretest.ProviderID(pool, 0)}, h.bound())
	assert.Len(t, h.azure.Calls(), 1)
}

func TestAPassThatChangesNothingWritesNothing(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	h.azure.End(h.only(), nil, 0)
	h.pass()
	calls, writes := len(h.azure.Calls()), h.writes
	for range 5 {
		h.clock.Step(time.Minute)
		_, err := h.Pass(t.Context())
		require.NoError(t, err)
	}
	assert.Len(t, h.azure.Calls(), calls)
	assert.Equal(t, writes, h.writes)
}

func TestManyClaimsCostAsManyCallsAsOne(t *testing.T) {
	cost := func(n int) int {
		h := newHouse(t)
		for i := range n {
			h.ask(fmt.Sprintf("c%03d", i))
		}
		h.pass()
		h.azure.End(h.only(), nil, 0)
		h.pass()
		require.Len(t, h.bound(), n)
		return h.azure.Cost()
	}
	assert.Equal(t, cost(1), cost(60))
}

func TestARestartedProcessTakesUpTheRunningOperation(t *testing.T) {
	for name, lose := range map[string]func(*house){
		"with its token": func(*house) {},
		"that died before it could keep the token": func(h *house) {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kaito", Name: OperationsConfigMap}}
			require.NoError(h.t, h.client.Delete(h.t.Context(), cm))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.ask("c1", "c2")
			h.pass()
			pool := h.only()
			lose(h)
			h.restart()
			h.pass()
			assert.Equal(t, []string{"create " + pool + " 2"}, h.azure.Calls(), "nothing is asked for twice")
			h.azure.End(pool, nil, 0)
			h.pass()
			assert.Len(t, h.bound(), 2)
			assert.Len(t, h.azure.Calls(), 1)
		})
	}
}

func TestAFailureAfterARestartIsStillRememberedByItsOffering(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	h.restart()
	h.azure.End(h.only(), noCapacity, 0)
	h.pass()
	f, ok := FailureOf(h.claim("c1"))
	require.True(t, ok)
	assert.Equal(t, azure.ReasonCapacityUnavailable, f.Reason)
}

func TestAConnectionThatDropsAfterTheWriteTookEffectMakesNoSecondPool(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.azure.FailNext("create", &azure.Error{Class: azure.ClassTransient, Reason: azure.ReasonAzureError, Message: "EOF"}, true)
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 0)
	h.pass()
	assert.Len(t, h.bound(), 1)
	assert.Equal(t, []string{"create " + pool + " 1"}, h.azure.Calls())
}

func TestAnAllocationThatFailsInPartFailsTheRestAndEveryLaterClaimAtOnce(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2", "c3")
	h.pass()
	pool := h.only()
	h.azure.End(pool, noCapacity, 2)
	h.pass()
	assert.Len(t, h.bound(), 2)
	failure, ok := FailureOf(h.claim("c3"))
	require.True(t, ok)
	assert.Equal(t, azure.ReasonCapacityUnavailable, failure.Reason)
	assert.Equal(t, azure.ClassCapacity, failure.Class)
	assert.Contains(t, failure.Message, "another size", "with what to do")

	shown, err := Load[map[string]any](t.Context(), h.Offerings)
	require.NoError(t, err)
	assert.Contains(t, shown, "offering."+a100+".regional.on-demand")

	calls := len(h.azure.Calls())
	h.ask("c4")
	h.pass()
	_, failed := FailureOf(h.claim("c4"))
	assert.True(t, failed)
	assert.Len(t, h.azure.Calls(), calls, "Azure is not asked")
	h.restart()
	h.ask("c5")
	h.pass()
	_, failed = FailureOf(h.claim("c5"))
	assert.True(t, failed, "the next process knows")

	h.clock.Step(time.Minute)
	h.pass()
	h.clock.Step(time.Minute)
	h.pass()
	assert.Equal(t, "resize "+pool+" 2", h.azure.Calls()[len(h.azure.Calls())-1], "the count is set back")
}

func TestWhatTheQuotaHasNoRoomForIsNotAskedFor(t *testing.T) {
	h := newHouse(t)
	h.azure.SetUsages(azure.Usage{Name: "famA", Current: 92, Limit: 150}, azure.Usage{Name: "cores", Limit: 1000})
	h.ask("c1", "c2", "c3")
	h.pass()
	assert.Equal(t, []string{"create " + h.only() + " 2"}, h.azure.Calls())
	failure, ok := FailureOf(h.claim("c3"))
	require.True(t, ok)
	assert.Equal(t, azure.ReasonQuotaExceeded, failure.Reason)
	assert.Contains(t, failure.Message, "needs 72 vCPUs of famA, has 58 of 150 left")
	assert.Contains(t, failure.Message, "az quota update")
}

func TestAZoneWithoutCapacityLeadsToTheNextZone(t *testing.T) {
	h := newHouse(t)
	h.class.Zones = []string{"2", "3"}
	h.ask("c1")
	h.pass()
	first := h.only()
	assert.Equal(t, []string{"2"}, h.azure.Spec(first).Zones)
	h.azure.End(first, &azure.Error{Reason: azure.ReasonZonalCapacity, Class: azure.ClassCapacity, Scope: azure.ScopeOffering, RememberFor: time.Hour}, 0)
	h.pass()
	_, failed := FailureOf(h.claim("c1"))
	require.False(t, failed)
	i := slices.IndexFunc(h.pools(), func(p string) bool { return p != first })
	require.GreaterOrEqual(t, i, 0, "another pool is made")
	assert.Equal(t, []string{"3"}, h.azure.Spec(h.pools()[i]).Zones)
}

func TestAClusterThatStopsBetweenTheLookAndTheWriteIsNotWrittenTo(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.gathered()
	h.azure.SetPower("Stopped")
	_, err := h.Pass(t.Context()) // the view of a second ago says that it runs
	require.NoError(t, err)
	assert.Empty(t, h.azure.Calls())
	w, _ := h.Waiting("uid-c1")
	assert.Equal(t, ReasonClusterNotRunning, w.Reason)
	h.azure.SetPower("Running")
	h.pass()
	assert.Len(t, h.azure.Calls(), 1)
}

func TestWhyAzureCannotBeReadStandsOnEveryWaitingClaim(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.azure.SetDown(&azure.Error{Class: azure.ClassConfig, Reason: azure.ReasonIdentityUnauthorized, Message: "AADSTS700213: no matching federated identity", Remedy: "check the workload identity federation"})
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	w, ok := h.Waiting("uid-c1")
	require.True(t, ok)
	assert.Equal(t, azure.ReasonIdentityUnauthorized, w.Reason)
	assert.Contains(t, w.Message, "federation")
	reads := h.azure.Cost()
	h.clock.Step(10 * time.Second)
	_, err = h.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, reads, h.azure.Cost(), "retried slowly: a person must act")
	h.azure.SetDown(nil)
	h.clock.Step(10 * time.Second)
	h.pass()
	assert.Len(t, h.azure.Calls(), 1)
}

func TestAnOperationThatHangsIsAbortedAndItsClaimsSayWhy(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	pool := h.only()
	h.clock.Step(20 * time.Minute)
	h.pass()
	require.Equal(t, "abort "+pool, h.azure.Calls()[len(h.azure.Calls())-1])
	h.azure.End(pool, nil, 0)
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	w, _ := h.Waiting("uid-c1")
	assert.Equal(t, ReasonOperationTimedOut, w.Reason)
	_, failed := FailureOf(h.claim("c1"))
	assert.False(t, failed, "it is tried again")
}

func TestAReleasedClaimsMachineIsDeletedAlsoWhenAnotherProcessHeardOfIt(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2")
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 0)
	h.pass()
	c := h.claim("c1")
	require.NoError(t, h.client.Delete(t.Context(), c))
	h.pass()
	assert.Len(t, h.azure.Calls(), 1, "core is still draining")
	h.Release("uid-c1")
	h.pass()
	assert.Equal(t, "deleteMachines "+pool+" [m0]", h.azure.Calls()[1])
	h.azure.End(pool, nil, 0)
	h.pass()

	c = h.claim("c2")
	require.NoError(t, h.client.Delete(t.Context(), c))
	c = h.claim("c2")
	c.StatusConditions().SetTrue(karpv1.ConditionTypeInstanceTerminating) // core wrote it, then everything restarted
	require.NoError(t, h.client.Status().Update(t.Context(), c))
	h.restart()
	h.pass()
	assert.Equal(t, "delete "+pool, h.azure.Calls()[2], "the last machine takes the pool along")
	h.azure.End(pool, nil, 0)
	h.pass()
	assert.Empty(t, h.pools())
}

func TestAClaimThatIsDeletedWhileItsMachineIsMadeLeaksNothing(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	c := h.claim("c1")
	c.Finalizers = nil // core finalizes at once what names no machine
	require.NoError(t, h.client.Update(t.Context(), c))
	require.NoError(t, client.IgnoreNotFound(h.client.Delete(t.Context(), c)))
	pool := h.only()
	h.azure.End(pool, nil, 0)
	for range 4 {
		h.pass()
		h.clock.Step(time.Minute)
	}
	require.Equal(t, "delete "+pool, h.azure.Calls()[len(h.azure.Calls())-1])
	h.azure.End(pool, nil, 0)
	h.pass()
	assert.Empty(t, h.pools())
}

func TestAClaimWhoseMachineVanishesSaysSoInItsStatusBeforeItGoes(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 0)
	h.pass()
	h.azure.Vanish(pool) // somebody else deletes the pool
	for range 4 {
		h.pass()
		h.clock.Step(time.Minute)
	}
	c := h.claim("c1")
	registered := c.StatusConditions().Get(karpv1.ConditionTypeRegistered)
	assert.True(t, registered.IsFalse())
	assert.Equal(t, ReasonMachineGone, registered.Reason)
	assert.False(t, c.DeletionTimestamp.IsZero())
}

func TestAConflictOnTheClaimIsLookedAtAgain(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	h.azure.End(h.only(), nil, 0)
	stale := true
	c := interceptor.NewClient(h.client.(client.WithWatch), interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if stale {
			stale = false
			return apierrors.NewConflict(schema.GroupResource{Resource: "nodeclaims"}, o.GetName(), nil)
		}
		return c.Patch(ctx, o, p, opts...)
	}})
	h.Client = c
	h.pass()
	h.pass()
	assert.Len(t, h.bound(), 1)
}

func TestAMachineThatWasBoundIsNotFreeThoughTheCacheIsBehind(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2")
	h.pass()
	pool := h.only()
	var behind karpv1.NodeClaimList
	require.NoError(t, h.client.List(t.Context(), &behind))
	h.Client = interceptor.NewClient(h.client.(client.WithWatch), interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, l client.ObjectList, _ ...client.ListOption) error {
		behind.DeepCopyInto(l.(*karpv1.NodeClaimList))
		return nil
	}})
	h.azure.Arrive(pool)
	h.pass()
	require.Equal(t, map[string]string{"c1": azuretest.ProviderID(pool, 0)}, h.bound())
	writes := h.writes
	h.azure.Arrive(pool)
	h.pass()
	assert.Equal(t, map[string]string{"c1": azuretest.ProviderID(pool, 0), "c2": azuretest.ProviderID(pool, 1)}, h.bound())
	assert.Equal(t, writes+1, h.writes, "one write a binding")
}

func TestTheTimeForTheNodeToJoinBeginsWithTheMachine(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	c := h.claim("c1")
	c.StatusConditions() // core's first pass: every condition Unknown since the claim's creation
	require.NoError(t, h.client.Status().Update(t.Context(), c))
	h.pass()
	h.clock.Step(18 * time.Minute) // a slow region
	h.azure.End(h.only(), nil, 0)
	h.pass()
	require.Len(t, h.bound(), 1)
	registered := h.claim("c1").StatusConditions().Get(karpv1.ConditionTypeRegistered)
	assert.Less(t, h.clock.Since(registered.LastTransitionTime.Time), time.Minute, "core would delete the claim 15 minutes after this")
	launched := h.claim("c1").StatusConditions().Get(karpv1.ConditionTypeLaunched)
	assert.Greater(t, h.clock.Since(launched.LastTransitionTime.Time), 15*time.Minute, "the launch's clock goes on")
}

func TestEveryMetricIsFed(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2", "c3")
	h.pass()
	pool := h.only()
	h.azure.End(pool, noCapacity, 2)
	h.pass()
	h.azure.Arrive(pool) // of nobody's asking
	for range 3 {
		h.pass()
		h.clock.Step(time.Minute)
	}
	families, err := h.gauges.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	assert.InDelta(t, 1, got["gpu_provisioner_operation_duration_seconds put CapacityUnavailable"], 0)
	assert.InDelta(t, 1, got["gpu_provisioner_agent_pools"], 0)
	assert.InDelta(t, 2, got["gpu_provisioner_machines claimed"], 0)
	assert.InDelta(t, 1, got["gpu_provisioner_machines free"], 0)
	assert.InDelta(t, 2, got["gpu_provisioner_claims bound"], 0)
	assert.InDelta(t, 1, got["gpu_provisioner_claims waiting"], 0, "the failed one, which core has yet to delete")
	assert.InDelta(t, 1, got["gpu_provisioner_claim_failures_total CapacityUnavailable"], 0)
	assert.InDelta(t, 1, got["gpu_provisioner_surplus_machines_deleted_total"], 0)
	assert.InDelta(t, 1, got["gpu_provisioner_operations_running"], 0, "that deletes the surplus")
	assert.Positive(t, got["gpu_provisioner_view_timestamp_seconds"])
	assert.Contains(t, fmt.Sprint(slices.Collect(maps.Keys(got))), "gpu_provisioner_offering_unavailable_until_seconds on-demand")
}
