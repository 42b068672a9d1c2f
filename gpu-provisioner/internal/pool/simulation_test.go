// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"kaito.sh/gpu-provisioner/internal/azure"
)

var simSettings = Settings{
	Gather:           time.Second,
	Patience:         2 * time.Minute,
	Grace:            time.Minute,
	OperationTimeout: 30 * time.Minute,
	JoinTimeout:      10 * time.Minute,
	MaxPools:         100,
}

func (s *simulation) check(t require.TestingT) {
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.claims)) {
		if id := s.claims[name].ProviderID; id != "" {
			require.Empty(t, owner[id], "I2: %s and %s name the same machine %s", owner[id], name, id)
			owner[id] = name
		}
	}
	require.Equal(t, 3, s.pools["userpool"].count, "I4")
	require.Len(t, s.pools["userpool"].machines, 3, "I4")
}

func (s *simulation) running() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.pools)) {
		if p := s.pools[name]; p.state != azure.StateSucceeded && p.state != azure.StateFailed {
			out = append(out, name)
		}
	}
	return out
}

func TestInvariantsHoldUnderFailuresAndRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &simulation{
			now:    start,
			pools:  map[string]*simPool{},
			claims: map[string]*Claim{},
			max:    rapid.IntRange(1, 4).Draw(t, "max"),
		}
		s.forget()
		s.pools["userpool"] = &simPool{foreign: true, state: azure.StateSucceeded, count: 3}
		for i := range 3 {
			s.pools["userpool"].machines = append(
				s.pools["userpool"].machines, azure.Machine{Name: fmt.Sprint(i), ProviderID: machineID("userpool", i)},
			)
		}
		t.Repeat(map[string]func(*rapid.T){
			"a claim comes": func(t *rapid.T) { s.add(rapid.SampledFrom([]string{keyA, keyB}).Draw(t, "key")) },
			"a claim is deleted": func(t *rapid.T) {
				if names := slices.Sorted(maps.Keys(s.claims)); len(names) > 0 {
					s.delete(rapid.SampledFrom(names).Draw(t, "claim"))
				}
			},
			"a node joins": func(t *rapid.T) {
				for _, c := range s.claims {
					c.Registered = c.Registered || c.ProviderID != ""
				}
			},
			"an operation ends": func(t *rapid.T) {
				if names := s.running(); len(names) > 0 {
					s.finish(rapid.SampledFrom(names).Draw(t, "pool"), rapid.IntRange(0, 5).Draw(t, "arrive"))
				}
			},
			"a machine vanishes": func(t *rapid.T) {
				for _, name := range slices.Sorted(maps.Keys(s.pools)) {
					if p := s.pools[name]; !p.foreign && len(p.machines) > 0 && p.state == azure.StateSucceeded {
						p.machines = p.machines[1:]
						return
					}
				}
			},
			"a user deletes a pool": func(t *rapid.T) {
				for _, name := range slices.Sorted(maps.Keys(s.pools)) {
					if p := s.pools[name]; !p.foreign && p.state == azure.StateSucceeded {
						delete(s.pools, name)
						return
					}
				}
			},
			"Azure lists too few machines": func(t *rapid.T) {
				// Only registered claims prove that their machine exists.
				for _, name := range slices.Sorted(maps.Keys(s.claims)) {
					c := s.claims[name]
					if p := s.pools[azure.PoolOf(c.ProviderID)]; p != nil && c.Registered && rapid.Bool().Draw(t, "hidden") {
						p.hidden = map[string]bool{c.ProviderID: true}
					}
				}
			},
			"Azure lists all machines": func(*rapid.T) { s.show() },
			"the process dies":         func(t *rapid.T) { s.forget() },
			"time passes": func(t *rapid.T) {
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				s.pass(t, rapid.IntRange(0, 30).Draw(t, "survive"))
				s.reap()
				s.check(t)
			},
		})
		s.show()
		// I3: without claims, all pools of this operator are deleted within a bounded number of steps.
		for name := range s.claims {
			s.delete(name)
		}
		for range 12 {
			s.now = s.now.Add(time.Minute)
			s.reap()
			s.pass(t, -1)
			for _, name := range s.running() {
				s.finish(name, 5)
			}
			s.check(t)
		}
		s.reap()
		require.Empty(t, s.claims, "I3: claims that do not go")
		require.Len(t, s.pools, 1, "I3: pools that are left: %v", slices.Collect(maps.Keys(s.pools)))
	})
}

func TestEveryClaimGetsItsMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &simulation{
			now:    start,
			pools:  map[string]*simPool{},
			claims: map[string]*Claim{},
			max:    rapid.IntRange(1, 5).Draw(t, "max"),
		}
		s.forget()
		n := rapid.IntRange(1, 20).Draw(t, "claims")
		for range n {
			s.add(rapid.SampledFrom([]string{keyA, keyB}).Draw(t, "key"))
			s.now = s.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "gap")) * time.Second)
			s.pass(t, -1)
		}
		for range 20 {
			s.now = s.now.Add(time.Minute)
			s.pass(t, -1)
			for _, name := range s.running() {
				s.finish(name, 100)
			}
			for _, c := range s.claims {
				c.Registered = c.Registered || c.ProviderID != ""
			}
		}
		require.Len(t, s.claims, n)
		for _, c := range s.claims {
			require.NotEmpty(t, c.ProviderID, "claim %s got no machine", c.Name)
		}
		require.Equal(t, n, s.created, "no machine too many")
	})
}
