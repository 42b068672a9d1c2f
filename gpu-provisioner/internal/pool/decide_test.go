// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	keyA = "aaaaaaaa"
	keyB = "bbbbbbbb"
)

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
			assert.Equal(t, karpenterv1alpha5.ReasonLaunching, w.waits()["c1"].Reason)
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

func TestPartialFailure(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 3, 0, 1).State = azure.StateFailed
	noCapacity := &azure.Error{Reason: karpenterv1alpha5.ReasonCapacityUnavailable, Class: azure.ClassCapacity}
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

func TestPoolsWithoutOurTagsAreNeverChanged(t *testing.T) {
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

func TestPoolLimit(t *testing.T) {
	w := newWorld()
	w.MaxPerPool = func(string) int { return 1 }
	for i := range 99 {
		w.View.Pools = append(w.View.Pools, azure.Pool{Name: fmt.Sprintf("user%d", i), State: azure.StateSucceeded})
	}
	w.waiting("c1", keyA)
	w.waiting("c2", keyA)
	assert.Len(t, w.decide(), 1)
	assert.Equal(t, karpenterv1alpha5.ReasonAgentPoolLimitReached, w.waits()["c2"].Reason)
}

func TestHeldKeyIsReportedAndATerminalErrorFails(t *testing.T) {
	w := newWorld()
	w.waiting("c", keyA)
	w.Holds[keyA] = Hold{
		Until: start.Add(time.Minute),
		Err:   &azure.Error{Reason: karpenterv1alpha5.ReasonIdentityUnauthorized, Class: azure.ClassConfig, Message: "no right"},
	}
	assert.Empty(t, w.decide())
	assert.Equal(t, karpenterv1alpha5.ReasonIdentityUnauthorized, w.waits()["c"].Reason)
	w.Holds[keyA] = Hold{
		Until: start.Add(time.Minute),
		Err:   &azure.Error{Reason: karpenterv1alpha5.ReasonInvalidRequest, Class: azure.ClassTerminal},
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
				assert.Equal(t, karpenterv1alpha5.ReasonClusterNotRunning, w.waits()["waits"].Reason)
				w.again(Decide(w.State))
			}
		})
	}
}
