// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"
	"time"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/events"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
)

// joined makes claims whose Nodes have joined, and returns their one pool.
func (h *house) joined(names ...string) string {
	h.t.Helper()
	h.ask(names...)
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 0)
	h.pass()
	require.Len(h.t, h.bound(), len(names))
	for _, name := range names {
		c := h.claim(name)
		c.StatusConditions().SetTrue(karpv1.ConditionTypeRegistered)
		require.NoError(h.t, h.client.Status().Update(h.t.Context(), c))
	}
	return pool
}

// minutes runs passes for so many minutes, every ten seconds, whatever they write.
func (h *house) minutes(n int) {
	h.t.Helper()
	for range 6 * n {
		_, err := h.Pass(h.t.Context())
		require.NoError(h.t, err)
		h.clock.Step(10 * time.Second)
	}
}

// release has core delete a claim and drain its Node.
func (h *house) release(name string) {
	c := h.claim(name)
	require.NoError(h.t, h.client.Delete(h.t.Context(), c))
	h.Release(c.UID)
}

// event is the next event that was recorded, or "".
func (h *house) event() string {
	select {
	case e := <-h.Engine.Events.(*events.FakeRecorder).Events:
		return e
	default:
		return ""
	}
}

// reap has core take its finalizer off a claim.
func (h *house) reap(name string) {
	c := h.claim(name)
	c.Finalizers = nil
	require.NoError(h.t, h.client.Update(h.t.Context(), c))
}

// wrongLists are answers of Azure to the list of the machines m0 and m1, which both run.
var wrongLists = map[string]azuretest.Distortion{
	"404": func([]azure.Machine) ([]azure.Machine, error) {
		return nil, &azure.Error{Class: azure.ClassGone, Reason: azure.ReasonNotFound, Status: 404}
	},
	"empty": func([]azure.Machine) ([]azure.Machine, error) { return nil, nil },
	"short": func(m []azure.Machine) ([]azure.Machine, error) { return m[:1], nil },
	"an entry without an id": func(m []azure.Machine) ([]azure.Machine, error) {
		m[1].ProviderID = ""
		return m, nil
	},
}

func TestAWrongMachineListTouchesNoLivePool(t *testing.T) {
	for name, wrong := range wrongLists {
		for process, restart := range map[string]bool{"": false, ", and a new process": true} {
			t.Run(name+process, func(t *testing.T) {
				h := newHouse(t)
				pool := h.joined("c1", "c2")
				before := len(h.azure.Calls())
				h.azure.Distort(pool, wrong)
				if restart {
					h.restart()
				}
				h.minutes(30)
				assert.Empty(t, h.azure.Calls()[before:], "the pool is neither deleted nor set to another count")
				assert.InDelta(t, 1, promtest.ToFloat64(h.Metrics.doubts), 0)
				assert.Contains(t, h.event(), "AgentPoolInDoubt agent pool "+pool+" is left alone")

				managed := h.claim("c1").StatusConditions().Get(ConditionPoolManaged)
				require.NotNil(t, managed)
				assert.Equal(t, ReasonPoolInDoubt, managed.Reason)
				assert.Contains(t, managed.Message, pool+" is left alone")
				writes := h.writes
				h.minutes(5)
				assert.Equal(t, writes, h.writes, "it is said once")

				h.ask("c3")
				h.minutes(1)
				assert.Empty(t, h.azure.Calls()[before:], "nor grown")
				w, _ := h.Waiting("uid-c3")
				assert.Contains(t, w.Message, pool+" is left alone")
				h.minutes(2)
				require.Len(t, h.azure.Calls()[before:], 1)
				assert.Contains(t, h.azure.Calls()[before], "create ", "after a while the claim gets a pool of its own")

				h.azure.Distort(pool, nil)
				h.minutes(5)
				assert.Len(t, h.azure.Calls()[before:], 1)
				assert.Zero(t, promtest.ToFloat64(h.Metrics.doubts), "it is right again")
				assert.True(t, h.claim("c1").StatusConditions().Get(ConditionPoolManaged).IsTrue())
			})
		}
	}
}

func TestAPoolInDoubtGivesUpReleasedMachinesByName(t *testing.T) {
	h := newHouse(t)
	pool := h.joined("c1", "c2")
	h.azure.Distort(pool, wrongLists["short"])
	h.minutes(2)
	h.release("c1")
	before := len(h.azure.Calls())
	h.minutes(2)
	assert.Equal(
		t, []string{"deleteMachines " + pool + " [m0]"}, h.azure.Calls()[before:], "m1, which is not listed, keeps the pool",
	)
}

func TestDoubtEndsWhenTheMachineHasReallyGone(t *testing.T) {
	h := newHouse(t)
	pool := h.joined("c1", "c2")
	h.azure.Distort(pool, wrongLists["short"]) // c2's machine was evicted
	h.minutes(5)
	before := len(h.azure.Calls())
	assert.InDelta(t, 1, promtest.ToFloat64(h.Metrics.doubts), 0, "the claim speaks for it")
	_, doubted := h.Doubts().Of(ProviderIDOf(h.claim("c2")))
	assert.False(t, doubted, "but core may compare the list with the Nodes, and delete the claim")
	h.release("c2")
	h.minutes(1)
	assert.Zero(t, promtest.ToFloat64(h.Metrics.doubts))
	h.reap("c2")
	h.minutes(3)
	assert.Equal(t, []string{"resize " + pool + " 1"}, h.azure.Calls()[before:])
}

func TestAMachineThatWeDeletedIsNotInDoubt(t *testing.T) {
	h := newHouse(t)
	pool := h.joined("c1", "c2")
	h.release("c2")
	h.minutes(1)
	h.azure.End(pool, nil, 0)
	c := h.claim("c2")
	c.StatusConditions().SetTrue(karpv1.ConditionTypeInstanceTerminating) // as core does
	require.NoError(t, h.client.Status().Update(t.Context(), c))
	h.restart() // which knows of no deletion
	h.minutes(1)
	assert.Zero(t, promtest.ToFloat64(h.Metrics.doubts))
	assert.Empty(t, h.Doubts().Machines())
}

func TestCoreKeepsMachinesOfAListThatIsNotWhole(t *testing.T) {
	for name, wrong := range wrongLists {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			pool := h.joined("c1", "c2")
			h.azure.Distort(pool, wrong)
			h.restart() // it never saw a right list
			h.minutes(1)
			_, kept := h.Doubts().Of(ProviderIDOf(h.claim("c2")))
			assert.Equal(t, name == "404" || name == "an entry without an id", kept)
		})
	}
}
