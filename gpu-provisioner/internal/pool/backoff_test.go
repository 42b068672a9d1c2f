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

// seconds runs a pass a second.
func (h *house) seconds(n int) {
	h.t.Helper()
	for range n {
		_, err := h.Pass(h.t.Context())
		require.NoError(h.t, err)
		h.clock.Step(time.Second)
	}
}

func TestAWriteThatAnswers404BacksOff(t *testing.T) {
	for verb, released := range map[string][]string{"delete": {"c1", "c2"}, "deleteMachines": {"c1"}} {
		t.Run(verb, func(t *testing.T) {
			h := newHouse(t)
			pool := h.joined("c1", "c2")
			h.azure.FailAll(verb, notFound)
			for _, name := range released {
				h.release(name)
			}
			before := len(h.azure.Calls())
			h.seconds(60)
			asked := len(h.azure.Calls()) - before
			t.Logf("%d calls in a minute", asked)
			assert.LessOrEqual(t, asked, 5, "LIST still shows the pool")
			h.azure.FailAll(verb, nil)
			h.minutes(2)
			require.Contains(t, h.azure.Calls()[len(h.azure.Calls())-1], verb+" "+pool, "it is tried again")
			h.azure.End(pool, nil, 0)
			h.pass()
		})
	}
}

func TestAPoolThatHasGoneHoldsNothingBack(t *testing.T) {
	h := newHouse(t)
	pool := h.joined("c1")
	h.azure.FailAll("delete", notFound)
	h.release("c1")
	h.seconds(30)
	h.azure.Vanish(pool)
	h.reap("c1")
	h.seconds(15)
	before := len(h.azure.Calls())
	h.ask("c2")
	h.seconds(3)
	assert.Equal(t, []string{"create " + pool + " 1"}, h.azure.Calls()[before:], "at once")
}
