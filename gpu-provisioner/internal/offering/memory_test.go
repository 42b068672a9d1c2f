// SPDX-License-Identifier: Apache-2.0

package offering

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"

	"kaito.sh/gpu-provisioner/internal/azure"
)

var (
	a100     = Offering{Size: "NC24", Family: "famA", CapacityType: OnDemand}
	a100zone = Offering{Size: "NC24", Family: "famA", Zone: "1", CapacityType: OnDemand}
	a100spot = Offering{Size: "NC24", Family: "famA", CapacityType: Spot}
	a100big  = Offering{Size: "NC48", Family: "famA", CapacityType: OnDemand}
	t4       = Offering{Size: "NC4", Family: "famT", CapacityType: OnDemand}
)

func TestFailureAppliesToItsScope(t *testing.T) {
	all := map[string]Offering{
		"itself":         a100,
		"its zone 1":     a100zone,
		"its spot":       a100spot,
		"its family":     a100big,
		"another family": t4,
	}
	for name, tc := range map[string]struct {
		failed Offering
		scope  azure.Scope
		gone   []string
	}{
		"no capacity for regional placement": {a100, azure.ScopeOffering, []string{"itself"}},
		"no capacity in a zone":              {a100zone, azure.ScopeOffering, []string{"its zone 1"}},
		"the size is not offered":            {a100, azure.ScopeSize, []string{"itself", "its zone 1"}},
		"the family's quota":                 {a100, azure.ScopeFamily, []string{"itself", "its zone 1", "its family"}},
		"the region's quota":                 {a100, azure.ScopeRegion, []string{"itself", "its zone 1", "its family", "another family"}},
		"the spot quota":                     {a100spot, azure.ScopeSpot, []string{"its spot"}},
		"the quota of an unknown family":     {Offering{Size: "NC24", CapacityType: OnDemand}, azure.ScopeFamily, []string{"itself", "its zone 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(testclock.NewFakeClock(time.Unix(0, 0)))
			_, ok := m.Fail(
				tc.failed, &azure.Error{Reason: "X", Class: azure.ClassCapacity, Scope: tc.scope, RememberFor: time.Hour},
			)
			require.True(t, ok)
			var gone []string
			for _, label := range []string{"itself", "its zone 1", "its spot", "its family", "another family"} {
				if m.Unavailable(all[label]) != nil {
					gone = append(gone, label)
				}
			}
			assert.Equal(t, tc.gone, gone)
		})
	}
}

func TestEntriesExpire(t *testing.T) {
	clk := testclock.NewFakeClock(time.Unix(0, 0))
	m := NewMemory(clk)
	m.Fail(a100, &azure.Error{Class: azure.ClassCapacity, Scope: azure.ScopeOffering, RememberFor: time.Hour})
	clk.Step(time.Hour - time.Second)
	require.NotNil(t, m.Unavailable(a100))
	clk.Step(time.Second)
	assert.Nil(t, m.Unavailable(a100))
	assert.Empty(t, m.Entries())
}

func TestOnlyCapacityIsRemembered(t *testing.T) {
	m := NewMemory(testclock.NewFakeClock(time.Unix(0, 0)))
	for _, class := range []azure.Class{azure.ClassConflict, azure.ClassThrottle, azure.ClassTransient, azure.ClassConfig, azure.ClassTerminal} {
		_, ok := m.Fail(a100, &azure.Error{Class: class, RememberFor: time.Hour})
		assert.False(t, ok, class)
	}
}

func TestRestoreSkipsExpiredEntries(t *testing.T) {
	clk := testclock.NewFakeClock(time.Unix(0, 0))
	m := NewMemory(clk)
	m.Fail(
		a100,
		&azure.Error{
			Reason:      "CapacityUnavailable",
			Class:       azure.ClassCapacity,
			Scope:       azure.ScopeOffering,
			RememberFor: time.Hour,
		},
	)
	m.Fail(t4, &azure.Error{Class: azure.ClassCapacity, Scope: azure.ScopeOffering, RememberFor: time.Minute})
	saved := map[string]Entry{}
	for _, e := range m.Entries() {
		saved[e.Key()] = e
	}
	clk.Step(2 * time.Minute)
	next := NewMemory(clk)
	next.Restore(saved)
	require.NotNil(t, next.Unavailable(a100))
	assert.Equal(t, "CapacityUnavailable", next.Unavailable(a100).Reason)
	assert.Nil(t, next.Unavailable(t4))
}

func TestKeysAreFitForAConfigMap(t *testing.T) {
	m := NewMemory(testclock.NewFakeClock(time.Unix(0, 0)))
	for _, scope := range []azure.Scope{azure.ScopeOffering, azure.ScopeSize, azure.ScopeFamily, azure.ScopeRegion} {
		m.Fail(
			Offering{Size: "Standard_NC4as_T4_v3", Family: "Standard NCASv3_T4 Family", CapacityType: OnDemand},
			&azure.Error{Class: azure.ClassCapacity, Scope: scope, RememberFor: time.Hour},
		)
	}
	for _, e := range m.Entries() {
		assert.Regexp(t, `^[-._a-zA-Z0-9]{1,253}$`, e.Key())
	}
	assert.Len(t, m.Entries(), 4)
}
