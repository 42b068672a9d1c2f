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
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// joined creates claims whose Nodes have registered, and returns the name of their pool.
func (f *fixture) joined(names ...string) string {
	f.t.Helper()
	f.ask(names...)
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 0)
	f.pass()
	require.Len(f.t, f.bound(), len(names))
	for _, name := range names {
		c := f.claim(name)
		c.StatusConditions().SetTrue(karpv1.ConditionTypeRegistered)
		require.NoError(f.t, f.client.Status().Update(f.t.Context(), c))
	}
	return pool
}

// minutes runs passes every ten seconds for a number of minutes.
func (f *fixture) minutes(n int) {
	f.t.Helper()
	for range 6 * n {
		_, err := f.Pass(f.t.Context())
		require.NoError(f.t, err)
		f.clock.Step(10 * time.Second)
	}
}

// release deletes a claim and drains its Node, as Karpenter does.
func (f *fixture) release(name string) {
	c := f.claim(name)
	require.NoError(f.t, f.client.Delete(f.t.Context(), c))
	f.Release(c.UID)
}

// event returns the next event that was recorded, or "".
func (f *fixture) event() string {
	select {
	case e := <-f.Engine.Events.(*events.FakeRecorder).Events:
		return e
	default:
		return ""
	}
}

// reap removes Karpenter's finalizer from a claim.
func (f *fixture) reap(name string) {
	c := f.claim(name)
	c.Finalizers = nil
	require.NoError(f.t, f.client.Update(f.t.Context(), c))
}

// wrongLists are wrong lists of the machines m0 and m1, which both run.
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

func TestWrongMachineListChangesNoPool(t *testing.T) {
	for name, wrong := range wrongLists {
		for process, restart := range map[string]bool{"": false, ", and a new process": true} {
			t.Run(name+process, func(t *testing.T) {
				f := newFixture(t)
				pool := f.joined("c1", "c2")
				before := len(f.azure.Calls())
				f.azure.Distort(pool, wrong)
				if restart {
					f.restart()
				}
				f.minutes(30)
				assert.Empty(t, f.azure.Calls()[before:], "the pool is neither deleted nor set to another count")
				assert.InDelta(t, 1, promtest.ToFloat64(f.Metrics.doubts), 0)
				assert.Contains(t, f.event(), "AgentPoolInDoubt agent pool "+pool+" is not changed")

				managed := f.claim("c1").StatusConditions().Get(ConditionPoolManaged)
				require.NotNil(t, managed)
				assert.Equal(t, karpenterv1alpha5.ReasonAgentPoolInDoubt, managed.Reason)
				assert.Contains(t, managed.Message, pool+" is not changed")
				writes := f.writes
				f.minutes(5)
				assert.Equal(t, writes, f.writes, "it is said once")

				f.ask("c3")
				f.minutes(1)
				assert.Empty(t, f.azure.Calls()[before:], "nor grown")
				w, _ := f.Waiting("uid-c3")
				assert.Contains(t, w.Message, pool+" is not changed")
				f.minutes(2)
				require.Len(t, f.azure.Calls()[before:], 1)
				assert.Contains(t, f.azure.Calls()[before], "create ", "after a while the claim gets a pool of its own")

				f.azure.Distort(pool, nil)
				f.minutes(5)
				assert.Len(t, f.azure.Calls()[before:], 1)
				assert.Zero(t, promtest.ToFloat64(f.Metrics.doubts), "it is right again")
				assert.True(t, f.claim("c1").StatusConditions().Get(ConditionPoolManaged).IsTrue())
			})
		}
	}
}

func TestReleasedMachineOfAPoolInDoubtIsDeleted(t *testing.T) {
	f := newFixture(t)
	pool := f.joined("c1", "c2")
	f.azure.Distort(pool, wrongLists["short"])
	f.minutes(2)
	f.release("c1")
	before := len(f.azure.Calls())
	f.minutes(2)
	assert.Equal(
		t, []string{"deleteMachines " + pool + " [m0]"}, f.azure.Calls()[before:], "m1, which is not listed, keeps the pool",
	)
}

func TestDoubtEndsWhenTheMachineHasReallyGone(t *testing.T) {
	f := newFixture(t)
	pool := f.joined("c1", "c2")
	f.azure.Distort(pool, wrongLists["short"]) // c2's machine was evicted
	f.minutes(5)
	before := len(f.azure.Calls())
	assert.InDelta(t, 1, promtest.ToFloat64(f.Metrics.doubts), 0, "the claim speaks for it")
	_, doubted := f.Doubts().Of(ProviderIDOf(f.claim("c2")))
	assert.False(t, doubted, "Karpenter may compare the list with the Nodes, and delete the claim")
	f.release("c2")
	f.minutes(1)
	assert.Zero(t, promtest.ToFloat64(f.Metrics.doubts))
	f.reap("c2")
	f.minutes(3)
	assert.Equal(t, []string{"resize " + pool + " 1"}, f.azure.Calls()[before:])
}

func TestMachineThatWeDeletedIsNotInDoubt(t *testing.T) {
	f := newFixture(t)
	pool := f.joined("c1", "c2")
	f.release("c2")
	f.minutes(1)
	f.azure.End(pool, nil, 0)
	c := f.claim("c2")
	c.StatusConditions().SetTrue(karpv1.ConditionTypeInstanceTerminating) // as Karpenter does
	require.NoError(t, f.client.Status().Update(t.Context(), c))
	f.restart() // the new process knows of no deletion
	f.minutes(1)
	assert.Zero(t, promtest.ToFloat64(f.Metrics.doubts))
	assert.Empty(t, f.Doubts().Machines())
}

func TestCoreKeepsMachinesOfAListThatIsNotWhole(t *testing.T) {
	for name, wrong := range wrongLists {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			pool := f.joined("c1", "c2")
			f.azure.Distort(pool, wrong)
			f.restart() // the new process never saw a correct list
			_, err := f.Pass(t.Context())
			require.NoError(t, err)
			_, kept := f.Doubts().Of(ProviderIDOf(f.claim("c2")))
			assert.True(t, kept, "the list may lag")
			f.minutes(2)
			_, kept = f.Doubts().Of(ProviderIDOf(f.claim("c2")))
			assert.Equal(t, name == "404" || name == "an entry without an id", kept)
		})
	}
}
