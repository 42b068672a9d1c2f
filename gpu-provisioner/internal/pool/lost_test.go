// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// unreadable are ways in which Azure does not tell what became of an operation.
var unreadable = map[string]func(h *house, pool string){
	"forgotten": func(h *house, pool string) { h.azure.Forget(pool) },
	"not told": func(h *house, _ string) {
		h.azure.FailAll(
			"look", &azure.Error{Class: azure.ClassTransient, Reason: azure.ReasonAzureError, Status: 500, Message: "oops"},
		)
	},
	"forbidden": func(h *house, _ string) {
		h.azure.FailAll(
			"look",
			&azure.Error{Class: azure.ClassConfig, Reason: azure.ReasonIdentityUnauthorized, Status: 403, Message: "no right"},
		)
	},
}

func TestAPutThatCannotBeReadEndsAsItsPoolSays(t *testing.T) {
	for name, lose := range unreadable {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.ask("c1")
			h.pass()
			pool := h.only()
			lose(h, pool)
			h.minutes(5)
			assert.Len(t, h.azure.Calls(), 1, "it still runs")
			h.azure.End(pool, nil, 0)
			h.minutes(3)
			assert.Len(t, h.bound(), 1)
			assert.Empty(t, h.operations)
			h.azure.FailAll("look", nil)
			h.ask("c2")
			h.minutes(1)
			assert.Equal(t, "resize "+pool+" 2", h.azure.Calls()[len(h.azure.Calls())-1], "the pool is not wedged")
		})
		t.Run(name+", failed", func(t *testing.T) {
			h := newHouse(t)
			h.ask("c1")
			h.pass()
			pool := h.only()
			lose(h, pool)
			h.azure.End(pool, noCapacity, 0)
			h.minutes(3)
			h.azure.FailAll("look", nil)
			h.minutes(5)
			require.Greater(t, len(h.azure.Calls()), 1, "it is tried again")
			w, _ := h.Waiting("uid-c1")
			t.Log(w.Message)
		})
	}
}

func TestADeleteThatCannotBeReadEndsAsItsPoolSays(t *testing.T) {
	for name, lose := range unreadable {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			pool := h.joined("c1", "c2")
			h.release("c1")
			h.minutes(1)
			require.Equal(t, "deleteMachines "+pool+" [m0]", h.azure.Calls()[1])
			lose(h, pool)
			h.minutes(2)
			h.azure.End(pool, nil, 0)
			h.minutes(3)
			assert.Empty(t, h.operations)
			h.reap("c1")
			h.azure.FailAll("look", nil)
			h.release("c2")
			h.minutes(1)
			require.Equal(t, "delete "+pool, h.azure.Calls()[len(h.azure.Calls())-1], "the pool is not wedged")
			lose(h, pool)
			h.minutes(2)
			h.azure.End(pool, nil, 0)
			h.minutes(3)
			assert.Empty(t, h.operations)
		})
	}
}

func TestADeletionThatWasLostIsMadeAgainSlowly(t *testing.T) {
	h := newHouse(t)
	pool := h.joined("c1", "c2")
	h.release("c1")
	for range 20 { // Azure takes each request, forgets it, and deletes nothing
		h.seconds(30)
		if len(h.operations) > 0 {
			h.azure.Forget(pool)
			h.azure.End(pool, &azure.Error{Class: azure.ClassTransient}, 0)
		}
	}
	n := len(h.azure.Calls()) - 1
	assert.Greater(t, n, 2)
	assert.Less(t, n, 15, "in ten minutes")
	assert.Less(t, h.clock.Since(start), time.Hour)
}
