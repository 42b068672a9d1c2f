// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestReleasesOfABurstAreGathered(t *testing.T) {
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
	assert.Equal(t, karpenterv1alpha5.ReasonMachineGone, actions[0].(Lose).Reason)
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
	assert.Equal(t, karpenterv1alpha5.ReasonNodeNeverJoined, actions[0].(Lose).Reason)
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
