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

// unreadable are ways in which the result of an operation cannot be read.
var unreadable = map[string]func(f *fixture, pool string){
	"forgotten": func(f *fixture, pool string) { f.azure.Forget(pool) },
	"not reported": func(f *fixture, _ string) {
		f.azure.FailAll(
			"look", &azure.Error{Class: azure.ClassTransient, Reason: karpenterv1alpha5.ReasonAzureError, Status: 500, Message: "oops"},
		)
	},
	"forbidden": func(f *fixture, _ string) {
		f.azure.FailAll(
			"look",
			&azure.Error{Class: azure.ClassConfig, Reason: karpenterv1alpha5.ReasonIdentityUnauthorized, Status: 403, Message: "no right"},
		)
	},
}

func TestUnreadablePutEndsAsItsPoolSays(t *testing.T) {
	for name, lose := range unreadable {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.ask("c1")
			f.pass()
			pool := f.only()
			lose(f, pool)
			f.minutes(5)
			assert.Len(t, f.azure.Calls(), 1, "it still runs")
			f.azure.End(pool, nil, 0)
			f.minutes(3)
			assert.Len(t, f.bound(), 1)
			assert.Empty(t, f.operations)
			f.azure.FailAll("look", nil)
			f.ask("c2")
			f.minutes(1)
			assert.Equal(t, "resize "+pool+" 2", f.azure.Calls()[len(f.azure.Calls())-1], "the pool is not wedged")
		})
		t.Run(name+", failed", func(t *testing.T) {
			f := newFixture(t)
			f.ask("c1")
			f.pass()
			pool := f.only()
			lose(f, pool)
			f.azure.End(pool, noCapacity, 0)
			f.minutes(3)
			f.azure.FailAll("look", nil)
			f.minutes(5)
			require.Greater(t, len(f.azure.Calls()), 1, "it is tried again")
			w, _ := f.Waiting("uid-c1")
			t.Log(w.Message)
		})
	}
}

func TestUnreadableDeleteEndsAsItsPoolSays(t *testing.T) {
	for name, lose := range unreadable {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			pool := f.joined("c1", "c2")
			f.release("c1")
			f.minutes(1)
			require.Equal(t, "deleteMachines "+pool+" [m0]", f.azure.Calls()[1])
			lose(f, pool)
			f.minutes(2)
			f.azure.End(pool, nil, 0)
			f.minutes(3)
			assert.Empty(t, f.operations)
			f.reap("c1")
			f.azure.FailAll("look", nil)
			f.release("c2")
			f.minutes(1)
			require.Equal(t, "delete "+pool, f.azure.Calls()[len(f.azure.Calls())-1], "the pool is not wedged")
			lose(f, pool)
			f.minutes(2)
			f.azure.End(pool, nil, 0)
			f.minutes(3)
			assert.Empty(t, f.operations)
		})
	}
}

func TestLostDeletionIsRetriedSlowly(t *testing.T) {
	f := newFixture(t)
	pool := f.joined("c1", "c2")
	f.release("c1")
	for range 20 { // Azure accepts each request and deletes nothing
		f.seconds(30)
		if len(f.operations) > 0 {
			f.azure.Forget(pool)
			f.azure.End(pool, &azure.Error{Class: azure.ClassTransient}, 0)
		}
	}
	n := len(f.azure.Calls()) - 1
	assert.Greater(t, n, 2)
	assert.Less(t, n, 15, "in ten minutes")
	assert.Less(t, f.clock.Since(start), time.Hour)
}
