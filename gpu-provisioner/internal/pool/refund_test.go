// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// roomFor sets a quota with room for a number of machines.
func (f *fixture) roomFor(machines int64) {
	f.azure.SetUsages(azure.Usage{Name: "famA", Limit: 24 * machines}, azure.Usage{Name: "cores", Limit: 1000})
}

func TestRejectedRequestTakesNoQuota(t *testing.T) {
	for verb, claims := range map[string][]string{"create": {"c1"}, "resize": {"c1", "c2"}} {
		t.Run(verb, func(t *testing.T) {
			f := newFixture(t)
			f.roomFor(int64(len(claims)))
			for _, earlier := range claims[:len(claims)-1] {
				f.joined(earlier)
				f.azure.SetUsages(azure.Usage{Name: "famA", Current: 24, Limit: 48}, azure.Usage{Name: "cores", Limit: 1000})
				f.clock.Step(2 * time.Minute)
			}
			last := claims[len(claims)-1]
			f.azure.FailNext(
				verb, &azure.Error{Class: azure.ClassConflict, Reason: karpenterv1alpha5.ReasonClusterBusy, Message: "in progress"}, false,
			)
			f.ask(last)
			f.minutes(1)
			failure, failed := FailureOf(f.claim(last))
			require.False(t, failed, failure.Message)
			refused := slices.IndexFunc(f.azure.Calls(), func(c string) bool { return c[:len(verb)] == verb })
			require.Len(t, f.azure.Calls()[refused:], 2, "rejected, and requested again")
			f.azure.End(f.only(), nil, 0)
			f.pass()
			assert.Len(t, f.bound(), len(claims))
		})
	}
}

func TestThirdZoneIsTriedWithQuotaForOne(t *testing.T) {
	f := newFixture(t)
	f.roomFor(1)
	f.class.Zones = []string{"1", "2", "3"}
	f.ask("c1")
	f.pass()
	tried := map[string]bool{}
	for _, zone := range f.class.Zones {
		i := slices.IndexFunc(f.pools(), func(p string) bool { return !tried[p] })
		failure, _ := FailureOf(f.claim("c1"))
		require.GreaterOrEqual(t, i, 0, "zone %s is not tried: %s", zone, failure.Message)
		pool := f.pools()[i]
		tried[pool] = true
		assert.Equal(t, []string{zone}, f.azure.Spec(pool).Zones)
		f.azure.End(
			pool,
			&azure.Error{
				Reason:      karpenterv1alpha5.ReasonZonalCapacityUnavailable,
				Class:       azure.ClassCapacity,
				Scope:       azure.ScopeOffering,
				RememberFor: time.Hour,
			},
			0,
		)
		f.pass()
	}
	failure, failed := FailureOf(f.claim("c1"))
	require.True(t, failed)
	assert.Equal(t, karpenterv1alpha5.ReasonZonalCapacityUnavailable, failure.Reason, "and not the quota")
}
