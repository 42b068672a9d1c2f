// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
)

const a100 = "Standard_NC24ads_A100_v4"

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
	h.azure.FailNext(
		"create", &azure.Error{Class: azure.ClassTransient, Reason: azure.ReasonAzureError, Message: "EOF"}, true,
	)
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 0)
	h.pass()
	assert.Len(t, h.bound(), 1)
	assert.Equal(t, []string{"create " + pool + " 1"}, h.azure.Calls())
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
	c := interceptor.NewClient(
		h.client.(client.WithWatch),
		interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if stale {
					stale = false
					return apierrors.NewConflict(schema.GroupResource{Resource: "nodeclaims"}, o.GetName(), nil)
				}
				return c.Patch(ctx, o, p, opts...)
			},
		},
	)
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
	h.Client = interceptor.NewClient(
		h.client.(client.WithWatch),
		interceptor.Funcs{
			List: func(_ context.Context, _ client.WithWatch, l client.ObjectList, _ ...client.ListOption) error {
				behind.DeepCopyInto(l.(*karpv1.NodeClaimList))
				return nil
			},
		},
	)
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
	assert.Less(
		t, h.clock.Since(registered.LastTransitionTime.Time), time.Minute,
		"core would delete the claim 15 minutes after this",
	)
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
	assert.InDelta(t, 1, got["kaito_provisioner_operation_duration_seconds put CapacityUnavailable"], 0)
	assert.InDelta(t, 1, got["kaito_provisioner_agent_pools"], 0)
	assert.InDelta(t, 2, got["kaito_provisioner_machines claimed"], 0)
	assert.InDelta(t, 1, got["kaito_provisioner_machines free"], 0)
	assert.InDelta(t, 2, got["kaito_provisioner_claims bound"], 0)
	assert.InDelta(t, 1, got["kaito_provisioner_claims waiting"], 0, "the failed one, which core has yet to delete")
	assert.InDelta(t, 1, got["kaito_provisioner_claim_failures_total launch CapacityUnavailable"], 0)
	assert.InDelta(t, 1, got["kaito_provisioner_surplus_machines_deleted_total"], 0)
	assert.InDelta(t, 1, got["kaito_provisioner_operations_running"], 0, "that deletes the surplus")
	assert.InDelta(t, 1, got["kaito_provisioner_orphaned_nodes"], 0)
	assert.Positive(t, got["kaito_provisioner_orphaned_node_seconds_total"])
	assert.Positive(t, got["kaito_provisioner_view_timestamp_seconds"])
	assert.Contains(
		t, fmt.Sprint(slices.Collect(maps.Keys(got))), "kaito_provisioner_offering_unavailable_until_seconds on-demand",
	)
}

func TestARunningOperationCostsOneLookWhenTheListShowsThatItIsOver(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2")
	h.pass()
	pool := h.only()
	for range 4 {
		h.clock.Step(10 * time.Second)
		_, err := h.Pass(t.Context())
		require.NoError(t, err)
	}
	assert.Zero(t, h.azure.Looks(), "the list says that it still runs")
	h.azure.End(pool, nil, 2)
	h.clock.Step(10 * time.Second)
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, h.azure.Looks())
	for _, name := range []string{"c1", "c2"} {
		assert.NotEmpty(t, h.claim(name).Annotations[AnnotationProviderID], "bound in the pass that saw the end")
	}
}

func TestAMachineThatNobodyNamesCountsAsOrphanedUntilItIsGone(t *testing.T) {
	h := newHouse(t)
	h.ask("c1", "c2")
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 2)
	h.pass()
	require.Zero(t, promtest.ToFloat64(h.Metrics.orphans))

	c := h.claim("c2")
	c.Finalizers = nil // somebody forces it away
	require.NoError(t, h.client.Update(t.Context(), c))
	require.NoError(t, h.client.Delete(t.Context(), c))
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	assert.InDelta(t, 1, promtest.ToFloat64(h.Metrics.orphans), 0)
	h.clock.Step(30 * time.Second)
	_, err = h.Pass(t.Context())
	require.NoError(t, err)
	assert.InDelta(t, 30, promtest.ToFloat64(h.Metrics.orphaned), 0.1)

	h.clock.Step(time.Minute) // the grace is over
	h.pass()
	require.Contains(t, h.azure.Calls()[len(h.azure.Calls())-1], "deleteMachines "+pool)
	assert.InDelta(t, 1, promtest.ToFloat64(h.Metrics.orphans), 0, "it costs money until it is gone")
	h.azure.End(pool, nil, 0)
	h.pass()
	assert.Zero(t, promtest.ToFloat64(h.Metrics.orphans))
	total := promtest.ToFloat64(h.Metrics.orphaned)
	assert.Greater(t, total, 90.0)
	h.clock.Step(time.Hour)
	h.pass()
	assert.InDelta(t, total, promtest.ToFloat64(h.Metrics.orphaned), 0, "and no longer")
}

func TestAnOperationWhoseLookIsThrottledIsLeftAloneForAsLongAsAzureAsks(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 1)
	h.azure.FailNext(
		"look", &azure.Error{Class: azure.ClassThrottle, Reason: azure.ReasonThrottled, RetryAfter: 17 * time.Second}, false,
	)
	h.clock.Step(10 * time.Second)
	for range 5 { // whatever wakes it
		_, err := h.Pass(t.Context())
		require.NoError(t, err)
	}
	assert.Equal(t, 1, h.azure.Looks())
	h.clock.Step(17 * time.Second)
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, h.azure.Looks())
	assert.NotEmpty(t, h.claim("c1").Annotations[AnnotationProviderID])
}
