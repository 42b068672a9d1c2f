// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
)

func TestNoBindingWhileAnotherClientChangesThePool(t *testing.T) {
	ours := &Operation{
		Handle:  azure.Handle{Kind: azure.OperationPut},
		Key:     keyA,
		Target:  1,
		Started: start.Add(-time.Minute),
	}
	for what, tc := range map[string]struct {
		state string
		op    *Operation
		bound bool
	}{
		"settled":                     {azure.StateSucceeded, nil, true},
		"failed":                      {azure.StateFailed, nil, true},
		"creating":                    {azure.StateCreating, nil, true},
		"scaling":                     {azure.StateScaling, nil, true},
		"updating by us":              {"Updating", ours, true},
		"updating by a person":        {"Updating", nil, false},
		"upgrading":                   {"Upgrading", nil, false},
		"upgrading, after our write":  {"Upgrading", ours, false},
		"upgrading the node image":    {"UpgradingNodeImageVersion", nil, false},
		"something that is not known": {"RotatingClusterCertificates", nil, false},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld()
			w.pool(keyA, 0, 1, 0).State = tc.state
			if tc.op != nil {
				w.Operations["g"+keyA+"0"] = *tc.op
			}
			w.waiting("c1", keyA)
			var bound bool
			for _, a := range w.decide() {
				_, is := a.(Bind)
				bound = bound || is
			}
			assert.Equal(t, tc.bound, bound)
		})
	}
}

func TestSurgeMachineIsNotBound(t *testing.T) {
	f := newFixture(t)
	pool := f.served("c1")
	f.azure.Upgrade(pool, 1)
	f.Cache.Invalidate(pool)
	f.ask("c2")
	f.pass()
	assert.Len(t, f.bound(), 1, "the surge machine is in the list, and free")
	w, _ := f.Waiting("uid-c2")
	assert.Contains(t, w.Message, pool+" is busy and will grow next")
	f.azure.EndUpgrade(pool)
	f.pass()
	f.azure.End(pool, nil, 0)
	f.pass()
	assert.Equal(t, azuretest.ProviderID(pool, 2), f.bound()["c2"])
	assert.Equal(t, []string{"create " + pool + " 1", "resize " + pool + " 2"}, f.azure.Calls())
}

func TestListedSurgeMachineIsKeptForTheGrace(t *testing.T) {
	w := newWorld()
	p := w.pool(keyA, 0, 1, 0, 1)
	p.State = "Upgrading"
	w.bound("c0", machineID(p.Name, 0))
	w.waiting("c1", keyA)
	d := Decide(w.State)
	w.again(d)
	p.State = azure.StateSucceeded
	d = Decide(w.State)
	for _, a := range d.Actions {
		_, bind := a.(Bind)
		_, shrink := a.(Shrink)
		assert.False(t, bind || shrink, "the list may lag: %v", a)
	}
	w.again(d)
	assert.Equal(
		t, []Action{Bind{Claim: "c1", ProviderID: machineID(p.Name, 1), Pool: p.Name}}, w.decide(), "AKS has kept it",
	)
}
