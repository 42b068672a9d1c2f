// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	keyA = "aaaaaaaa"
	keyB = "bbbbbbbb"
)

// world builds a State. Its claims are an hour old, so that they are not gathered.
type world struct{ State }

func newWorld() *world {
	return &world{
		State{
			Now: start,
			View: azure.View{
				At:       start,
				Oldest:   start,
				Complete: true,
				Cluster:  azure.Cluster{PowerState: "Running", Location: "eastus"},
			},
			Operations: map[string]Operation{},
			Holds:      map[string]Hold{},
			Sightings:  map[string]Sighting{},
			MaxPerPool: func(string) int { return 100 },
			Settings: Settings{
				Gather: time.Second, Patience: 2 * time.Minute, Grace: time.Minute, OperationTimeout: 20 * time.Minute,
				JoinTimeout: 10 * time.Minute, MaxPools: 100,
			},
		},
	}
}

func machineID(pool string, n int) string { return azuretest.ProviderID(pool, n) }

func (w *world) pool(key string, ordinal, count int, machines ...int) *azure.Pool {
	p := azure.Pool{
		Name: Name(key, ordinal), State: azure.StateSucceeded, Count: count, MachinesAt: w.View.At,
		Tags: map[string]string{azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: key},
	}
	for _, n := range machines {
		p.Machines = append(p.Machines, azure.Machine{Name: fmt.Sprintf("m%d", n), ProviderID: machineID(p.Name, n)})
	}
	w.View.Pools = append(w.View.Pools, p)
	return &w.View.Pools[len(w.View.Pools)-1]
}

func (w *world) waiting(name, key string) *Claim {
	w.Claims = append(
		w.Claims, Claim{Name: name, UID: name, Created: start.Add(-time.Hour), Keys: []string{key}, Target: key},
	)
	return &w.Claims[len(w.Claims)-1]
}

func (w *world) bound(name, providerID string) *Claim {
	w.Claims = append(
		w.Claims,
		Claim{
			Name:       name,
			UID:        name,
			Created:    start.Add(-time.Hour),
			ProviderID: providerID,
			Bound:      start.Add(-time.Hour),
			Registered: true,
		},
	)
	return &w.Claims[len(w.Claims)-1]
}

// decide returns the actions without the Waits.
func (w *world) decide() []Action {
	var out []Action
	for _, a := range Decide(w.State).Actions {
		if _, ok := a.(Wait); !ok {
			out = append(out, a)
		}
	}
	return out
}

// again moves the clock by a minute and the view with it.
func (w *world) again(d Decision) {
	w.Sightings = d.Sightings
	w.Now = w.Now.Add(time.Minute)
	w.View.At, w.View.Oldest = w.Now, w.Now
	for i := range w.View.Pools {
		w.View.Pools[i].MachinesAt = w.Now
	}
}

func (w *world) waits() map[string]Wait {
	out := map[string]Wait{}
	for _, a := range Decide(w.State).Actions {
		if x, ok := a.(Wait); ok {
			out[x.Claim] = x
		}
	}
	return out
}

func TestWaitingClaimsOfAKeyBecomeOneRequest(t *testing.T) {
	w := newWorld()
	w.waiting("c1", keyA)
	w.waiting("c2", keyA)
	w.waiting("c3", keyA)
	assert.Equal(t, []Action{Create{Pool: "g" + keyA + "0", Key: keyA, Claims: []string{"c1", "c2", "c3"}}}, w.decide())
}

func TestClaimsOfDifferentKeysDoNotShareAPool(t *testing.T) {
	w := newWorld()
	w.waiting("c1", keyA)
	w.waiting("c2", keyB)
	assert.ElementsMatch(t, []Action{
		Create{Pool: "g" + keyA + "0", Key: keyA, Claims: []string{"c1"}},
		Create{Pool: "g" + keyB + "0", Key: keyB, Claims: []string{"c2"}},
	}, w.decide())
}

func TestPoolWithRoomGrows(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1, 0)
	w.bound("old", machineID("g"+keyA+"0", 0))
	w.waiting("c1", keyA)
	w.waiting("c2", keyA)
	assert.Equal(t, []Action{Grow{Pool: "g" + keyA + "0", Key: keyA, From: 1, Claims: []string{"c1", "c2"}}}, w.decide())
}

func TestFullPoolGetsASibling(t *testing.T) {
	w := newWorld()
	w.MaxPerPool = func(string) int { return 2 }
	w.pool(keyA, 0, 1, 0)
	w.bound("old", machineID("g"+keyA+"0", 0))
	for i := range 4 {
		w.waiting(fmt.Sprintf("c%d", i), keyA)
	}
	assert.Equal(t, []Action{
		Grow{Pool: "g" + keyA + "0", Key: keyA, From: 1, Claims: []string{"c0"}},
		Create{Pool: "g" + keyA + "1", Key: keyA, Claims: []string{"c1", "c2"}},
		Create{Pool: "g" + keyA + "2", Key: keyA, Claims: []string{"c3"}},
	}, w.decide())
}

func TestFreeMachineGoesToTheOldestClaim(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1, 0)
	w.waiting("young", keyA).Created = start.Add(-time.Minute)
	w.waiting("old", keyA)
	assert.Equal(t, []Action{
		Bind{Claim: "old", ProviderID: machineID("g"+keyA+"0", 0), Pool: "g" + keyA + "0"},
		Grow{Pool: "g" + keyA + "0", Key: keyA, From: 1, Claims: []string{"young"}},
	}, w.decide())
}

func TestClaimsOfARunningOperationAreNotRequestedAgain(t *testing.T) {
	for name, running := range map[string]func(*world){
		"known by its token": func(w *world) {
			w.Operations["g"+keyA+"0"] = Operation{Handle: azure.Handle{Kind: azure.OperationPut, Pool: "g" + keyA + "0"}, Key: keyA, Target: 2, Started: start}
		},
		"known only by the pool's state, the token being lost": func(w *world) { w.pool(keyA, 0, 2).State = "Creating" },
		"ended, but the view is older than the end": func(w *world) {
			w.pool(keyA, 0, 2)
			w.Operations["g"+keyA+"0"] = Operation{Handle: azure.Handle{Kind: azure.OperationPut, Pool: "g" + keyA + "0"}, Key: keyA, Target: 2, Started: start.Add(-time.Minute), Ended: start.Add(time.Second)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			running(w)
			w.waiting("c1", keyA)
			w.waiting("c2", keyA)
			assert.Empty(t, w.decide())
			assert.Equal(t, ReasonLaunching, w.waits()["c1"].Reason)
		})
	}
}

func TestFurtherClaimsWaitForABusyPool(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1).State = "Creating"
	w.waiting("served", keyA)
	w.waiting("late", keyA).Created = start.Add(-time.Minute)
	assert.Empty(t, w.decide())
	w.Now = start.Add(2 * time.Minute)
	assert.Equal(t, []Action{Create{Pool: "g" + keyA + "1", Key: keyA, Claims: []string{"late"}}}, w.decide())
}

func TestBurstBecomesOneRequest(t *testing.T) {
	w := newWorld()
	w.waiting("c1", keyA).Seen = start.Add(-800 * time.Millisecond)
	w.waiting("c2", keyA).Seen = start.Add(-200 * time.Millisecond)
	d := Decide(w.State)
	assert.Empty(t, w.decide())
	assert.Equal(t, start.Add(800*time.Millisecond), d.Next, "a second after the younger one")
	w.Claims[0].Seen = start.Add(-5 * time.Second)
	assert.Len(t, w.decide(), 1, "a claim waits at most five times Gather")
}

func TestReleasesOfABurstAreGatheredToo(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 2, 0, 1)
	for i, name := range []string{"a", "b"} {
		c := w.bound(name, machineID("g"+keyA+"0", i))
		c.Deleting, c.Released, c.ReleasedAt = true, true, start.Add(-time.Duration(i)*300*time.Millisecond)
	}
	w.Now = start.Add(4 * time.Second)
	assert.Empty(t, w.decide())
	w.Now = start.Add(5 * time.Second)
	assert.Equal(t, []Action{Remove{Pool: "g" + keyA + "0"}}, w.decide())
}

func TestPartialFailure(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 3, 0, 1).State = azure.StateFailed
	noCapacity := &azure.Error{Reason: azure.ReasonCapacityUnavailable, Class: azure.ClassCapacity}
	for i := range 3 {
		c := w.waiting(fmt.Sprintf("c%d", i), keyA)
		c.Target, c.Unavailable = "", noCapacity
	}
	assert.Equal(t, []Action{
		Bind{Claim: "c0", ProviderID: machineID("g"+keyA+"0", 0), Pool: "g" + keyA + "0"},
		Bind{Claim: "c1", ProviderID: machineID("g"+keyA+"0", 1), Pool: "g" + keyA + "0"},
		Fail{Claim: "c2", Err: noCapacity},
	}, w.decide())

	w.again(Decide(w.State))
	w.Claims = nil
	w.bound("c0", machineID("g"+keyA+"0", 0))
	w.bound("c1", machineID("g"+keyA+"0", 1))
	assert.Equal(t, []Action{Reset{Pool: "g" + keyA + "0", Count: 2}}, w.decide(), "after two observations and the grace")
}

func TestReleasedMachineIsDeletedByName(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 3, 0, 1, 2)
	w.bound("stays", machineID("g"+keyA+"0", 0))
	for i, name := range []string{"gone1", "gone2"} {
		c := w.bound(name, machineID("g"+keyA+"0", i+1))
		c.Deleting, c.Released = true, true
	}
	assert.Equal(
		t,
		[]Action{
			Shrink{Pool: "g" + keyA + "0", ProviderIDs: []string{machineID("g"+keyA+"0", 1), machineID("g"+keyA+"0", 2)}},
		},
		w.decide(),
	)
	w.Claims[0].Deleting, w.Claims[0].Released = true, true
	assert.Equal(t, []Action{Remove{Pool: "g" + keyA + "0"}}, w.decide())
}

func TestDeletedClaimKeepsItsMachineUntilDrained(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1, 0)
	w.bound("draining", machineID("g"+keyA+"0", 0)).Deleting = true
	assert.Empty(t, w.decide())
	w.again(Decide(w.State))
	assert.Empty(t, w.decide(), "however long it takes")
}

func TestSurplusMachineIsDeletedAfterTheGrace(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 2, 0, 1)
	w.bound("c", machineID("g"+keyA+"0", 0))
	assert.Empty(t, w.decide(), "seen once")
	w.Sightings = Decide(w.State).Sightings
	w.Now = start.Add(time.Hour)
	assert.Empty(t, w.decide(), "an hour later, but the same observation")
	w.again(Decide(w.State))
	assert.Equal(
		t,
		[]Action{
			Shrink{
				Pool:        "g" + keyA + "0",
				ProviderIDs: []string{machineID("g"+keyA+"0", 1)},
				Surplus:     []string{machineID("g"+keyA+"0", 1)},
			},
		},
		w.decide(),
	)
}

func TestPoolsThatAreNotTaggedOursAreNeverTouched(t *testing.T) {
	w := newWorld()
	p := w.pool(keyA, 0, 5, 0, 1)
	p.Tags = map[string]string{azure.TagPoolKey: keyA} // a user's pool with a similar name
	w.waiting("c", keyA)
	assert.Equal(t, []Action{Create{Pool: "g" + keyA + "1", Key: keyA, Claims: []string{"c"}}}, w.decide())
	w.Claims = nil
	for range 3 {
		w.again(Decide(w.State))
		assert.Empty(t, w.decide())
	}
}

func TestBusyPoolIsNotWrittenTo(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1, 0).State = "Updating"
	c := w.bound("c", machineID("g"+keyA+"0", 0))
	c.Deleting, c.Released = true, true
	assert.Empty(t, w.decide())
}

func TestEmptyPoolIsDeletedAfterTheGrace(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 2).State = azure.StateFailed
	assert.Empty(t, w.decide())
	w.again(Decide(w.State))
	assert.Equal(t, []Action{Remove{Pool: "g" + keyA + "0"}}, w.decide())
}

func TestClaimOfAVanishedMachineIsLost(t *testing.T) {
	w := newWorld()
	w.bound("c", machineID("gone", 0)).Registered = false
	assert.Empty(t, w.decide(), "seen once")
	w.again(Decide(w.State))
	actions := w.decide()
	require.Len(t, actions, 1)
	assert.Equal(t, ReasonMachineGone, actions[0].(Lose).Reason)
}

func TestClaimOfAMachineThatNeverRegistersIsLost(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1, 0)
	c := w.bound("c", machineID("g"+keyA+"0", 0))
	c.Registered, c.Bound = false, start.Add(-9*time.Minute)
	assert.Empty(t, w.decide())
	w.Now = start.Add(time.Minute)
	actions := w.decide()
	require.Len(t, actions, 1)
	assert.Equal(t, ReasonNodeNeverJoined, actions[0].(Lose).Reason)
}

func TestPutThatTimesOutIsAborted(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1).State = "Creating"
	w.Operations["g"+keyA+"0"] = Operation{
		Handle:  azure.Handle{Kind: azure.OperationPut, Pool: "g" + keyA + "0"},
		Key:     keyA,
		Target:  1,
		Started: start.Add(-20 * time.Minute),
	}
	assert.Equal(t, []Action{Abort{Pool: "g" + keyA + "0", Started: start.Add(-20 * time.Minute)}}, w.decide())
}

func TestPoolLimit(t *testing.T) {
	w := newWorld()
	w.MaxPerPool = func(string) int { return 1 }
	for i := range 99 {
		w.View.Pools = append(w.View.Pools, azure.Pool{Name: fmt.Sprintf("user%d", i), State: azure.StateSucceeded})
	}
	w.waiting("c1", keyA)
	w.waiting("c2", keyA)
	assert.Len(t, w.decide(), 1)
	assert.Equal(t, ReasonPoolLimitReached, w.waits()["c2"].Reason)
}

func TestHeldKeyIsReportedAndATerminalErrorFails(t *testing.T) {
	w := newWorld()
	w.waiting("c", keyA)
	w.Holds[keyA] = Hold{
		Until: start.Add(time.Minute),
		Err:   &azure.Error{Reason: azure.ReasonIdentityUnauthorized, Class: azure.ClassConfig, Message: "no right"},
	}
	assert.Empty(t, w.decide())
	assert.Equal(t, azure.ReasonIdentityUnauthorized, w.waits()["c"].Reason)
	w.Holds[keyA] = Hold{
		Until: start.Add(time.Minute),
		Err:   &azure.Error{Reason: azure.ReasonInvalidRequest, Class: azure.ClassTerminal},
	}
	require.Len(t, w.decide(), 1)
	assert.IsType(t, Fail{}, w.decide()[0])
}

func TestNothingIsDoneWhileTheClusterIsStopped(t *testing.T) {
	for name, cluster := range map[string]azure.Cluster{
		"stopped":  {PowerState: "Stopped", ProvisioningState: "Succeeded"},
		"stopping": {PowerState: "Running", ProvisioningState: "Stopping"},
		"starting": {PowerState: "Running", ProvisioningState: "Starting"},
		"deleting": {PowerState: "Running", ProvisioningState: "Deleting"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.View.Cluster = cluster
			w.pool(keyA, 0, 2, 0, 1)
			w.waiting("waits", keyA)
			w.bound("its machine is not listed now", machineID("gone", 0)).Registered = false
			c := w.bound("released", machineID("g"+keyA+"0", 1))
			c.Deleting, c.Released = true, true
			for range 3 {
				assert.Empty(t, w.decide())
				assert.Equal(t, ReasonClusterNotRunning, w.waits()["waits"].Reason)
				w.again(Decide(w.State))
			}
		})
	}
}
