// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// simulation is a cluster in memory: claims that are created and deleted, an Azure that succeeds or fails in part or in
// whole, and a process that restarts. It runs Decide repeatedly and checks the invariants after every step.
type simulation struct {
	now        time.Time
	pools      map[string]*simPool
	claims     map[string]*Claim
	operations map[string]Operation
	holds      map[string]Hold
	sightings  map[string]Sighting
	max        int
	serial     int
	created    int // machines so far
}

func (s *simulation) view() azure.View {
	v := azure.View{At: s.now, Oldest: s.now, Complete: true, Cluster: azure.Cluster{PowerState: "Running"}}
	for _, name := range slices.Sorted(maps.Keys(s.pools)) {
		p := s.pools[name]
		tags := map[string]string{azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: p.key}
		if p.foreign {
			tags = nil
		}
		listed := slices.DeleteFunc(slices.Clone(p.machines), func(m azure.Machine) bool { return p.hidden[m.ProviderID] })
		v.Pools = append(
			v.Pools, azure.Pool{Name: name, State: p.state, Count: p.count, Tags: tags, Machines: listed, MachinesAt: s.now},
		)
	}
	return v
}

func (s *simulation) state() State {
	st := State{
		Now: s.now, View: s.view(), Operations: maps.Clone(s.operations), Holds: s.holds, Sightings: s.sightings,
		MaxPerPool: func(string) int { return s.max }, Settings: simSettings,
	}
	for _, name := range slices.Sorted(maps.Keys(s.claims)) {
		st.Claims = append(st.Claims, *s.claims[name])
	}
	return st
}

// pass decides and carries out the actions; the process may die after any of them.
func (s *simulation) pass(t require.TestingT, survive int) {
	d := Decide(s.state())
	s.sightings = d.Sightings
	for _, name := range d.Settled {
		delete(s.operations, name)
	}
	for i, action := range d.Actions {
		if i == survive {
			s.forget()
			return
		}
		s.do(t, action)
	}
}

// forget restarts the process: only Azure and the claims keep their state.
func (s *simulation) forget() {
	s.operations, s.sightings, s.holds = map[string]Operation{}, map[string]Sighting{}, map[string]Hold{}
}

func (s *simulation) do(t require.TestingT, action Action) {
	switch x := action.(type) {
	case Bind:
		s.claims[x.Claim].ProviderID, s.claims[x.Claim].Bound = x.ProviderID, s.now
	case Create:
		require.NotContains(t, s.pools, x.Pool, "an existing pool is not created again")
		require.LessOrEqual(t, len(x.Claims), s.max)
		s.pools[x.Pool] = &simPool{key: x.Key, state: "Creating", count: len(x.Claims), target: len(x.Claims)}
		s.start(x.Pool, Operation{Key: x.Key, Target: len(x.Claims), Handle: azure.Handle{Kind: azure.OperationPut}})
	case Grow:
		p := s.writable(t, x.Pool)
		require.Equal(t, len(p.machines), x.From, "a count is only ever raised from what is there")
		require.LessOrEqual(t, x.From+len(x.Claims), s.max)
		p.state, p.count, p.target = "Scaling", x.From+len(x.Claims), x.From+len(x.Claims)
		s.start(x.Pool, Operation{Key: p.key, Target: p.target, Handle: azure.Handle{Kind: azure.OperationPut}})
	case Reset:
		p := s.writable(t, x.Pool)
		require.GreaterOrEqual(t, x.Count, len(p.machines), "a count is never lowered below the machines that are there")
		p.state, p.count, p.target = "Scaling", x.Count, x.Count
		s.start(x.Pool, Operation{Key: p.key, Target: x.Count, Handle: azure.Handle{Kind: azure.OperationPut}})
	case Shrink:
		p := s.writable(t, x.Pool)
		for _, id := range x.ProviderIDs {
			s.mayGo(t, id)
		}
		p.state, p.remove = "Deleting machines", x.ProviderIDs
		s.start(
			x.Pool, Operation{Key: p.key, Machines: x.ProviderIDs, Handle: azure.Handle{Kind: azure.OperationDeleteMachines}},
		)
	case Remove:
		p := s.writable(t, x.Pool)
		for _, m := range p.machines {
			s.mayGo(t, m.ProviderID)
		}
		p.state, p.deleting = azure.StateDeleting, true
		s.start(x.Pool, Operation{Key: p.key, Handle: azure.Handle{Kind: azure.OperationDelete}})
	case Fail, Lose:
		name := fmt.Sprint(action)
		switch x := action.(type) {
		case Fail:
			name = x.Claim
		case Lose:
			name = x.Claim
		}
		s.delete(name)
	}
}

func (s *simulation) writable(t require.TestingT, pool string) *simPool {
	p := s.pools[pool]
	require.NotNil(t, p)
	require.False(t, p.foreign, "I4: a pool that is not ours is never written to")
	require.True(t, p.state == azure.StateSucceeded || p.state == azure.StateFailed, "one operation a pool")
	return p
}

// mayGo returns whether a machine may be deleted: Karpenter released it, or no claim names it.
func (s *simulation) mayGo(t require.TestingT, id string) {
	for _, c := range s.claims {
		if c.ProviderID == id {
			require.True(t, c.Released, "machine %s of claim %s was deleted under it", id, c.Name)
		}
	}
}

func (s *simulation) start(pool string, op Operation) {
	op.Started, op.Pool = s.now, pool
	s.operations[pool] = op
}

// finish ends the operation of a pool; arrive is the number of its new machines that are created.
func (s *simulation) finish(pool string, arrive int) {
	p := s.pools[pool]
	switch {
	case p.deleting:
		delete(s.pools, pool)
	case len(p.remove) > 0:
		p.machines = slices.DeleteFunc(
			p.machines, func(m azure.Machine) bool { return slices.Contains(p.remove, m.ProviderID) },
		)
		p.count, p.remove, p.state = len(p.machines), nil, azure.StateSucceeded
	default:
		p.state = azure.StateSucceeded
		for len(p.machines) < p.target {
			if arrive == 0 {
				p.state = azure.StateFailed
				break
			}
			arrive--
			s.created++
			p.machines = append(p.machines, azure.Machine{Name: fmt.Sprint(s.created), ProviderID: machineID(pool, s.created)})
		}
	}
	if op, ok := s.operations[pool]; ok {
		op.Ended = s.now
		s.operations[pool] = op
	}
	s.now = s.now.Add(time.Second)
}

func (s *simulation) add(key string) {
	s.serial++
	name := fmt.Sprintf("c%03d", s.serial)
	s.claims[name] = &Claim{Name: name, UID: name, Created: s.now, Keys: []string{key}, Target: key}
}

// delete deletes a claim as Karpenter does: at once without a machine, otherwise when the machine is gone.
func (s *simulation) delete(name string) {
	c := s.claims[name]
	if c == nil {
		return
	}
	if c.ProviderID == "" {
		delete(s.claims, name)
		return
	}
	c.Deleting, c.Released = true, true
}

// show makes Azure list all machines again.
func (s *simulation) show() {
	for _, p := range s.pools {
		p.hidden = nil
	}
}

// reap finalizes claims whose machine is gone, as Karpenter does.
func (s *simulation) reap() {
	there := map[string]bool{}
	for _, p := range s.pools {
		for _, m := range p.machines {
			there[m.ProviderID] = true
		}
	}
	for name, c := range s.claims {
		if c.Deleting && !there[c.ProviderID] {
			delete(s.claims, name)
		}
	}
}

type simPool struct {
	key      string
	state    string
	count    int
	machines []azure.Machine
	foreign  bool
	hidden   map[string]bool // machines that Azure does not list now
	// what the running operation will do
	target   int
	remove   []string
	deleting bool
}
