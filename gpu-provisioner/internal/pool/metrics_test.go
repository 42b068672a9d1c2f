// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryMetricIsFed(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2", "c3")
	f.pass()
	pool := f.only()
	f.azure.End(pool, noCapacity, 2)
	f.pass()
	f.azure.Arrive(pool) // no claim requested it
	for range 3 {
		f.pass()
		f.clock.Step(time.Minute)
	}
	families, err := f.gauges.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
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
	assert.InDelta(t, 1, got["kaito_provisioner_claims waiting"], 0, "the failed one, which Karpenter has not deleted yet")
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

func TestMachineWithoutAClaimIsAnOrphan(t *testing.T) {
	f := newFixture(t)
	f.ask("c1", "c2")
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 2)
	f.pass()
	require.Zero(t, promtest.ToFloat64(f.Metrics.orphans))

	c := f.claim("c2")
	c.Finalizers = nil // a user removes the finalizer
	require.NoError(t, f.client.Update(t.Context(), c))
	require.NoError(t, f.client.Delete(t.Context(), c))
	_, err := f.Pass(t.Context())
	require.NoError(t, err)
	assert.InDelta(t, 1, promtest.ToFloat64(f.Metrics.orphans), 0)
	f.clock.Step(30 * time.Second)
	_, err = f.Pass(t.Context())
	require.NoError(t, err)
	assert.InDelta(t, 30, promtest.ToFloat64(f.Metrics.orphaned), 0.1)

	f.clock.Step(time.Minute) // the grace is over
	f.pass()
	require.Contains(t, f.azure.Calls()[len(f.azure.Calls())-1], "deleteMachines "+pool)
	assert.InDelta(t, 1, promtest.ToFloat64(f.Metrics.orphans), 0, "it costs money until it is deleted")
	f.azure.End(pool, nil, 0)
	f.pass()
	assert.Zero(t, promtest.ToFloat64(f.Metrics.orphans))
	total := promtest.ToFloat64(f.Metrics.orphaned)
	assert.Greater(t, total, 90.0)
	f.clock.Step(time.Hour)
	f.pass()
	assert.InDelta(t, total, promtest.ToFloat64(f.Metrics.orphaned), 0, "and no longer")
}
