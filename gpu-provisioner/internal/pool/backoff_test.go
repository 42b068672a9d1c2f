// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/gpu-provisioner/internal/azure"
)

var notFound = &azure.Error{
	Class:   azure.ClassGone,
	Reason:  azure.ReasonNotFound,
	Status:  404,
	Message: "the agent pool was not found",
}

// seconds runs a pass every second.
func (f *fixture) seconds(n int) {
	f.t.Helper()
	for range n {
		_, err := f.Pass(f.t.Context())
		require.NoError(f.t, err)
		f.clock.Step(time.Second)
	}
}

func TestWriteThatAnswers404BacksOff(t *testing.T) {
	for verb, released := range map[string][]string{"delete": {"c1", "c2"}, "deleteMachines": {"c1"}} {
		t.Run(verb, func(t *testing.T) {
			f := newFixture(t)
			pool := f.joined("c1", "c2")
			f.azure.FailAll(verb, notFound)
			for _, name := range released {
				f.release(name)
			}
			before := len(f.azure.Calls())
			f.seconds(60)
			asked := len(f.azure.Calls()) - before
			t.Logf("%d calls in a minute", asked)
			assert.LessOrEqual(t, asked, 5, "LIST still shows the pool")
			f.azure.FailAll(verb, nil)
			f.minutes(2)
			require.Contains(t, f.azure.Calls()[len(f.azure.Calls())-1], verb+" "+pool, "it is tried again")
			f.azure.End(pool, nil, 0)
			f.pass()
		})
	}
}

func TestHoldOfADeletedPoolIsDropped(t *testing.T) {
	f := newFixture(t)
	pool := f.joined("c1")
	f.azure.FailAll("delete", notFound)
	f.release("c1")
	f.seconds(30)
	f.azure.Vanish(pool)
	f.reap("c1")
	f.seconds(15)
	before := len(f.azure.Calls())
	f.ask("c2")
	f.seconds(3)
	assert.Equal(t, []string{"create " + pool + " 1"}, f.azure.Calls()[before:], "at once")
}
