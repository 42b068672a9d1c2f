// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"testing"
	"time"

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
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

const a100 = "Standard_NC24ads_A100_v4"

func TestThreeClaimsBecomeOnePut(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2", "c3")
	f.pass()
	f.pass()
	pool := f.only()
	assert.Equal(t, []string{"create " + pool + " 3"}, f.azure.Calls())
	assert.Empty(t, f.bound())
	w, ok := f.Waiting("uid-c1")
	require.True(t, ok)
	assert.Equal(t, karpenterv1alpha5.ReasonLaunching, w.Reason)
	f.azure.End(pool, nil, 0)
	f.pass()
	assert.Len(t, f.bound(), 3)
	assert.Len(t, f.azure.Calls(), 1)
}

func TestMachineIsBoundWhileTheOperationRuns(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2")
	f.pass()
	pool := f.only()
	f.azure.Arrive(pool)
	f.pass()
	assert.Equal(t, map[string]string{"c1": azuretest.ProviderID(pool, 0)}, f.bound())
	assert.Len(t, f.azure.Calls(), 1)
}

func TestIdlePassWritesNothing(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	f.azure.End(f.only(), nil, 0)
	f.pass()
	calls, writes := len(f.azure.Calls()), f.writes
	for range 5 {
		f.clock.Step(time.Minute)
		_, err := f.Pass(t.Context())
		require.NoError(t, err)
	}
	assert.Len(t, f.azure.Calls(), calls)
	assert.Equal(t, writes, f.writes)
}

func TestManyClaimsCostAsManyCallsAsOne(t *testing.T) {
	cost := func(n int) int {
		f := newFixture(t)
		for i := range n {
			f.ask(fmt.Sprintf("c%03d", i))
		}
		f.pass()
		f.azure.End(f.only(), nil, 0)
		f.pass()
		require.Len(t, f.bound(), n)
		return f.azure.Cost()
	}
	assert.Equal(t, cost(1), cost(60))
}

func TestRestartResumesTheOperation(t *testing.T) {
	for name, lose := range map[string]func(*fixture){
		"with its token": func(*fixture) {},
		"that died before it could keep the token": func(f *fixture) {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kaito", Name: OperationsConfigMap}}
			require.NoError(f.t, f.client.Delete(f.t.Context(), cm))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.ask("c1", "c2")
			f.pass()
			pool := f.only()
			lose(f)
			f.restart()
			f.pass()
			assert.Equal(t, []string{"create " + pool + " 2"}, f.azure.Calls(), "no second request")
			f.azure.End(pool, nil, 0)
			f.pass()
			assert.Len(t, f.bound(), 2)
			assert.Len(t, f.azure.Calls(), 1)
		})
	}
}

func TestFailureAfterARestartMarksItsOffering(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	f.restart()
	f.azure.End(f.only(), noCapacity, 0)
	f.pass()
	failure, ok := FailureOf(f.claim("c1"))
	require.True(t, ok)
	assert.Equal(t, karpenterv1alpha5.ReasonCapacityUnavailable, failure.Reason)
}

func TestLostAnswerOfAWriteCreatesNoSecondPool(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.azure.FailNext(
		"create", &azure.Error{Class: azure.ClassTransient, Reason: karpenterv1alpha5.ReasonAzureError, Message: "EOF"}, true,
	)
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 0)
	f.pass()
	assert.Len(t, f.bound(), 1)
	assert.Equal(t, []string{"create " + pool + " 1"}, f.azure.Calls())
}

func TestReleaseSurvivesARestart(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2")
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 0)
	f.pass()
	c := f.claim("c1")
	require.NoError(t, f.client.Delete(t.Context(), c))
	f.pass()
	assert.Len(t, f.azure.Calls(), 1, "Karpenter still drains")
	f.Release("uid-c1")
	f.pass()
	assert.Equal(t, "deleteMachines "+pool+" [m0]", f.azure.Calls()[1])
	f.azure.End(pool, nil, 0)
	f.pass()

	c = f.claim("c2")
	require.NoError(t, f.client.Delete(t.Context(), c))
	c = f.claim("c2")
	c.StatusConditions().SetTrue(karpv1.ConditionTypeInstanceTerminating) // Karpenter wrote it, then everything restarted
	require.NoError(t, f.client.Status().Update(t.Context(), c))
	f.restart()
	f.pass()
	assert.Equal(t, "delete "+pool, f.azure.Calls()[2], "the last machine takes the pool along")
	f.azure.End(pool, nil, 0)
	f.pass()
	assert.Empty(t, f.pools())
}

func TestClaimDeletedDuringItsOperationLeaksNothing(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	c := f.claim("c1")
	c.Finalizers = nil // Karpenter finalizes a claim without a machine at once
	require.NoError(t, f.client.Update(t.Context(), c))
	require.NoError(t, client.IgnoreNotFound(f.client.Delete(t.Context(), c)))
	pool := f.only()
	f.azure.End(pool, nil, 0)
	for range 4 {
		f.pass()
		f.clock.Step(time.Minute)
	}
	require.Equal(t, "delete "+pool, f.azure.Calls()[len(f.azure.Calls())-1])
	f.azure.End(pool, nil, 0)
	f.pass()
	assert.Empty(t, f.pools())
}

func TestClaimOfAVanishedMachineGetsAReason(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 0)
	f.pass()
	f.azure.Vanish(pool) // another client deletes the pool
	for range 4 {
		f.pass()
		f.clock.Step(time.Minute)
	}
	c := f.claim("c1")
	registered := c.StatusConditions().Get(karpv1.ConditionTypeRegistered)
	assert.True(t, registered.IsFalse())
	assert.Equal(t, karpenterv1alpha5.ReasonMachineGone, registered.Reason)
	assert.False(t, c.DeletionTimestamp.IsZero())
}

func TestConflictOnTheClaimIsRetried(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	f.azure.End(f.only(), nil, 0)
	stale := true
	c := interceptor.NewClient(
		f.client.(client.WithWatch),
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
	f.Client = c
	f.pass()
	f.pass()
	assert.Len(t, f.bound(), 1)
}

func TestBoundMachineIsNotFreeWhenTheCacheLags(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2")
	f.pass()
	pool := f.only()
	var behind karpv1.NodeClaimList
	require.NoError(t, f.client.List(t.Context(), &behind))
	f.Client = interceptor.NewClient(
		f.client.(client.WithWatch),
		interceptor.Funcs{
			List: func(_ context.Context, _ client.WithWatch, l client.ObjectList, _ ...client.ListOption) error {
				behind.DeepCopyInto(l.(*karpv1.NodeClaimList))
				return nil
			},
		},
	)
	f.azure.Arrive(pool)
	f.pass()
	require.Equal(t, map[string]string{"c1": azuretest.ProviderID(pool, 0)}, f.bound())
	writes := f.writes
	f.azure.Arrive(pool)
	f.pass()
	assert.Equal(t, map[string]string{"c1": azuretest.ProviderID(pool, 0), "c2": azuretest.ProviderID(pool, 1)}, f.bound())
	assert.Equal(t, writes+1, f.writes, "one write a binding")
}

func TestRegistrationTimeoutStartsWithTheMachine(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	c := f.claim("c1")
	c.StatusConditions() // Karpenter's first pass: every condition is Unknown since the claim's creation
	require.NoError(t, f.client.Status().Update(t.Context(), c))
	f.pass()
	f.clock.Step(18 * time.Minute) // a slow region
	f.azure.End(f.only(), nil, 0)
	f.pass()
	require.Len(t, f.bound(), 1)
	registered := f.claim("c1").StatusConditions().Get(karpv1.ConditionTypeRegistered)
	assert.Less(
		t, f.clock.Since(registered.LastTransitionTime.Time), time.Minute,
		"Karpenter would delete the claim 15 minutes after this",
	)
	launched := f.claim("c1").StatusConditions().Get(karpv1.ConditionTypeLaunched)
	assert.Greater(t, f.clock.Since(launched.LastTransitionTime.Time), 15*time.Minute, "the launch timeout is not restarted")
}
