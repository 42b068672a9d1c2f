// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// roomFor sets a quota that has room for so many machines.
func (h *house) roomFor(machines int64) {
	h.azure.SetUsages(azure.Usage{Name: "famA", Limit: 24 * machines}, azure.Usage{Name: "cores", Limit: 1000})
}

func TestARefusedRequestTakesNoQuota(t *testing.T) {
	for verb, claims := range map[string][]string{"create": {"c1"}, "resize": {"c1", "c2"}} {
		t.Run(verb, func(t *testing.T) {
			h := newHouse(t)
			h.roomFor(int64(len(claims)))
			for _, earlier := range claims[:len(claims)-1] {
				h.joined(earlier)
				h.azure.SetUsages(azure.Usage{Name: "famA", Current: 24, Limit: 48}, azure.Usage{Name: "cores", Limit: 1000})
				h.clock.Step(2 * time.Minute)
			}
			last := claims[len(claims)-1]
			h.azure.FailNext(
				verb, &azure.Error{Class: azure.ClassConflict, Reason: azure.ReasonClusterBusy, Message: "in progress"}, false,
			)
			h.ask(last)
			h.minutes(1)
			failure, failed := FailureOf(h.claim(last))
			require.False(t, failed, failure.Message)
			refused := slices.IndexFunc(h.azure.Calls(), func(c string) bool { return c[:len(verb)] == verb })
			require.Len(t, h.azure.Calls()[refused:], 2, "refused, and asked for again")
			h.azure.End(h.only(), nil, 0)
			h.pass()
			assert.Len(t, h.bound(), len(claims))
		})
	}
}

func TestTheThirdZoneIsTriedWithQuotaForOne(t *testing.T) {
	h := newHouse(t)
	h.roomFor(1)
	h.class.Zones = []string{"1", "2", "3"}
	h.ask("c1")
	h.pass()
	tried := map[string]bool{}
	for _, zone := range h.class.Zones {
		i := slices.IndexFunc(h.pools(), func(p string) bool { return !tried[p] })
		failure, _ := FailureOf(h.claim("c1"))
		require.GreaterOrEqual(t, i, 0, "zone %s is not tried: %s", zone, failure.Message)
		pool := h.pools()[i]
		tried[pool] = true
		assert.Equal(t, []string{zone}, h.azure.Spec(pool).Zones)
		h.azure.End(
			pool,
			&azure.Error{
				Reason:      azure.ReasonZonalCapacity,
				Class:       azure.ClassCapacity,
				Scope:       azure.ScopeOffering,
				RememberFor: time.Hour,
			},
			0,
		)
		h.pass()
	}
	failure, failed := FailureOf(h.claim("c1"))
	require.True(t, failed)
	assert.Equal(t, azure.ReasonZonalCapacity, failure.Reason, "and not the quota")
}
