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
)

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
	h.azure.End(
		first,
		&azure.Error{
			Reason:      azure.ReasonZonalCapacity,
			Class:       azure.ClassCapacity,
			Scope:       azure.ScopeOffering,
			RememberFor: time.Hour,
		},
		0,
	)
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
	h.azure.SetDown(
		&azure.Error{
			Class:   azure.ClassConfig,
			Reason:  azure.ReasonIdentityUnauthorized,
			Message: "AADSTS700213: no matching federated identity",
			Remedy:  "check the workload identity federation",
		},
	)
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

func TestAMendedIdentityIsTriedAtOnce(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.azure.SetDown(
		&azure.Error{Class: azure.ClassConfig, Reason: azure.ReasonIdentityUnauthorized, Message: "AADSTS700213"},
	)
	for range 5 { // by now it would be tried every five minutes
		h.clock.Step(5 * time.Minute)
		_, err := h.Pass(t.Context())
		require.NoError(t, err)
	}
	h.azure.SetDown(nil)
	h.Retry()
	<-h.Woken()
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	assert.Len(t, h.azure.Calls(), 1)
}

// TestAnOperationThatHangsAndThatNobodyHasNotedIsAborted: the process died between Azure's answer and the note of it.
func TestAnOperationThatHangsAndThatNobodyHasNotedIsAborted(t *testing.T) {
	h := newHouse(t)
	h.ask("c1")
	h.pass()
	pool := h.only()
	require.NoError(
		t,
		h.client.Delete(
			t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kaito", Name: OperationsConfigMap}},
		),
	)
	h.restart()
	h.pass() // seen for the first time
	calls := len(h.azure.Calls())
	h.clock.Step(19 * time.Minute)
	h.pass()
	require.NotContains(t, h.azure.Calls()[calls:], "abort "+pool, "it may yet end")
	h.clock.Step(time.Minute)
	h.pass()
	require.Contains(t, h.azure.Calls()[calls:], "abort "+pool)
	h.azure.End(pool, nil, 0)
	h.clock.Step(10 * time.Second)
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	w, _ := h.Waiting("uid-c1")
	assert.Equal(t, ReasonOperationTimedOut, w.Reason)
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
	h.clock.Step(10 * time.Second)
	_, err := h.Pass(t.Context())
	require.NoError(t, err)
	w, _ := h.Waiting("uid-c1")
	assert.Equal(t, ReasonOperationTimedOut, w.Reason)
	_, failed := FailureOf(h.claim("c1"))
	assert.False(t, failed, "it is tried again")
}
