// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestPartialAllocationFailure(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2", "c3")
	f.pass()
	pool := f.only()
	f.azure.End(pool, noCapacity, 2)
	f.pass()
	assert.Len(t, f.bound(), 2)
	failure, ok := FailureOf(f.claim("c3"))
	require.True(t, ok)
	assert.Equal(t, karpenterv1alpha5.ReasonCapacityUnavailable, failure.Reason)
	assert.Equal(t, azure.ClassCapacity, failure.Class)
	assert.Contains(t, failure.Message, "another size", "with what to do")

	shown, err := Load[map[string]any](t.Context(), f.Offerings)
	require.NoError(t, err)
	assert.Contains(t, shown, "offering."+a100+".regional.on-demand")

	calls := len(f.azure.Calls())
	f.ask("c4")
	f.pass()
	_, failed := FailureOf(f.claim("c4"))
	assert.True(t, failed)
	assert.Len(t, f.azure.Calls(), calls, "Azure is not called")
	f.restart()
	f.ask("c5")
	f.pass()
	_, failed = FailureOf(f.claim("c5"))
	assert.True(t, failed, "the next process knows")

	f.clock.Step(time.Minute)
	f.pass()
	f.clock.Step(time.Minute)
	f.pass()
	assert.Equal(t, "resize "+pool+" 2", f.azure.Calls()[len(f.azure.Calls())-1], "the count is set back")
}

func TestRequestBeyondTheQuotaIsNotMade(t *testing.T) {
	f := newFixture(t)
	f.azure.SetUsages(azure.Usage{Name: "famA", Current: 92, Limit: 150}, azure.Usage{Name: "cores", Limit: 1000})
	f.ask("c1", "c2", "c3")
	f.pass()
	assert.Equal(t, []string{"create " + f.only() + " 2"}, f.azure.Calls())
	failure, ok := FailureOf(f.claim("c3"))
	require.True(t, ok)
	assert.Equal(t, karpenterv1alpha5.ReasonQuotaExceeded, failure.Reason)
	assert.Contains(t, failure.Message, "needs 72 vCPUs of famA, has 58 of 150 left")
	assert.Contains(t, failure.Message, "az quota update")
}

func TestZoneWithoutCapacityLeadsToTheNext(t *testing.T) {
	f := newFixture(t)
	f.class.Zones = []string{"2", "3"}
	f.ask("c1")
	f.pass()
	first := f.only()
	assert.Equal(t, []string{"2"}, f.azure.Spec(first).Zones)
	f.azure.End(
		first,
		&azure.Error{
			Reason:      karpenterv1alpha5.ReasonZonalCapacityUnavailable,
			Class:       azure.ClassCapacity,
			Scope:       azure.ScopeOffering,
			RememberFor: time.Hour,
		},
		0,
	)
	f.pass()
	_, failed := FailureOf(f.claim("c1"))
	require.False(t, failed)
	i := slices.IndexFunc(f.pools(), func(p string) bool { return p != first })
	require.GreaterOrEqual(t, i, 0, "another pool is created")
	assert.Equal(t, []string{"3"}, f.azure.Spec(f.pools()[i]).Zones)
}

func TestNoWriteToAClusterThatHasJustStopped(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.gathered()
	f.azure.SetPower("Stopped")
	_, err := f.Pass(t.Context()) // the view is a second old and says that the cluster runs
	require.NoError(t, err)
	assert.Empty(t, f.azure.Calls())
	w, _ := f.Waiting("uid-c1")
	assert.Equal(t, karpenterv1alpha5.ReasonClusterNotRunning, w.Reason)
	f.azure.SetPower("Running")
	f.pass()
	assert.Len(t, f.azure.Calls(), 1)
}

func TestWhyAzureCannotBeReadStandsOnEveryWaitingClaim(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.azure.SetDown(
		&azure.Error{
			Class:   azure.ClassConfig,
			Reason:  karpenterv1alpha5.ReasonIdentityUnauthorized,
			Message: "AADSTS700213: no matching federated identity",
			Remedy:  "check the workload identity federation",
		},
	)
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	w, ok := f.Waiting("uid-c1")
	require.True(t, ok)
	assert.Equal(t, karpenterv1alpha5.ReasonIdentityUnauthorized, w.Reason)
	assert.Contains(t, w.Message, "federation")
	reads := f.azure.Cost()
	f.clock.Step(10 * time.Second)
	_, err = f.Pass(t.Context())
	require.NoError(t, err)
	assert.Equal(t, reads, f.azure.Cost(), "retried slowly: a person must act")
	f.azure.SetDown(nil)
	f.clock.Step(10 * time.Second)
	f.pass()
	assert.Len(t, f.azure.Calls(), 1)
}

func TestRecoveredIdentityIsRetriedAtOnce(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.azure.SetDown(
		&azure.Error{Class: azure.ClassConfig, Reason: karpenterv1alpha5.ReasonIdentityUnauthorized, Message: "AADSTS700213"},
	)
	for range 5 { // by now, retries are five minutes apart
		f.clock.Step(5 * time.Minute)
		_, err := f.Pass(t.Context())
		require.NoError(t, err)
	}
	f.azure.SetDown(nil)
	f.Retry()
	<-f.Woken()
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	assert.Len(t, f.azure.Calls(), 1)
}

// TestUnrecordedOperationThatTimesOutIsAborted: the process died after Azure's answer and before the save.
func TestUnrecordedOperationThatTimesOutIsAborted(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	pool := f.only()
	require.NoError(
		t,
		f.client.Delete(
			t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kaito", Name: OperationsConfigMap}},
		),
	)
	f.restart()
	f.pass() // first view that shows it
	calls := len(f.azure.Calls())
	f.clock.Step(19 * time.Minute)
	f.pass()
	require.NotContains(t, f.azure.Calls()[calls:], "abort "+pool, "it may yet end")
	f.clock.Step(time.Minute)
	f.pass()
	require.Contains(t, f.azure.Calls()[calls:], "abort "+pool)
	f.azure.End(pool, nil, 0)
	f.clock.Step(10 * time.Second)
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	w, _ := f.Waiting("uid-c1")
	assert.Equal(t, karpenterv1alpha5.ReasonOperationTimedOut, w.Reason)
}

func TestOperationThatTimesOutIsAborted(t *testing.T) {
	f := newFixture(t)
	f.ask("c1")
	f.pass()
	pool := f.only()
	f.clock.Step(20 * time.Minute)
	f.pass()
	require.Equal(t, "abort "+pool, f.azure.Calls()[len(f.azure.Calls())-1])
	f.azure.End(pool, nil, 0)
	f.clock.Step(10 * time.Second)
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	w, _ := f.Waiting("uid-c1")
	assert.Equal(t, karpenterv1alpha5.ReasonOperationTimedOut, w.Reason)
	_, failed := FailureOf(f.claim("c1"))
	assert.False(t, failed, "it is tried again")
}
