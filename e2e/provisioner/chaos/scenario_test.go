// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/weather"
)

// served returns a world with Ready Machines.
func served(t *testing.T, machines int, change func(*fakeazure.Options), args ...string) (*world, *scene) {
	t.Helper()
	w, s := newWorld(t, change, args...), &scene{want: map[string]outcome{}}
	t.Cleanup(w.close)
	s.ask(w, slices.Repeat([]outcome{ready}, machines)...)
	w.until("all are Ready", func() bool { return w.exactly(s.want) == "" })
	return w, s
}

// rounds runs rounds, in which Azure must get nothing but reads.
func (w *world) rounds(n int) {
	w.t.Helper()
	writes := len(w.azure.State().Writes)
	for range n {
		w.round()
	}
	require.Len(w.t, w.azure.State().Writes, writes, "nothing is written to Azure")
}

// givenBack ends each scenario: everything is deleted.
func (w *world) givenBack(s *scene) {
	w.t.Helper()
	s.release(w, len(s.want))
	w.until("I3: everything is given back", func() bool { return w.exactly(s.want) == "" })
}

// long is more rounds than any grace, interval and timeout of the operator takes.
const long = 70

func TestListThatFailsOnItsSecondPageDeletesNothing(t *testing.T) {
	for verb, perPool := range map[string]string{"listPools": "1", "listMachines": "100"} {
		t.Run(verb, func(t *testing.T) {
			w, s := served(t, 5, func(o *fakeazure.Options) { o.PageSize = 2 }, "--max-nodes-per-pool="+perPool)
			// Karpenter trusts a Ready Node more than any list. If no Node is Ready, node repair waits for a user.
			for id := range w.machines {
				w.azure.ChangeNode(fakeazure.NodeChange{ProviderID: id, NotReady: true})
			}
			w.azure.AddFault(fakeazure.Fault{Verb: verb, Page: 2, Kind: "ServerError"})
			w.rounds(long)
			assert.Empty(t, w.exactly(s.want))
			w.crash() // the new process never saw the whole list
			w.rounds(long)
			assert.Empty(t, w.exactly(s.want))
			w.azure.ClearFaults()
			s.release(w, 2)
			w.until("only the released nodes are deleted", func() bool { return w.exactly(s.want) == "" })
			w.givenBack(s)
		})
	}
}

func TestNodesDeletedByForceKeepTheirMachines(t *testing.T) {
	w, s := served(t, 2, nil)
	machines := keys(w.machines)
	for _, node := range w.listNodes() {
		if w.machines[node.Spec.ProviderID] {
			require.NoError(
				t,
				shared.client.Patch(
					ctx,
					&node,
					client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)),
				),
			)
			require.NoError(t, shared.client.Delete(ctx, &node))
		}
	}
	w.rounds(long)
	require.Len(t, w.listClaims(), 2, "the truth is Azure, which has their machines")
	assert.Equal(t, machines, keys(w.machines))
	for _, id := range machines {
		w.azure.ChangeNode(fakeazure.NodeChange{ProviderID: id}) // the kubelet registers again
	}
	w.rounds(3)
	assert.Empty(t, w.exactly(s.want))
	for _, node := range w.listNodes() {
		if w.machines[node.Spec.ProviderID] {
			assert.Contains(
				t, s.want, node.Labels["kaito.sh/workspace"], "without the claim's labels no pod of the Workspace finds it",
			)
			assert.NotEmpty(t, node.Finalizers, "it is drained before its machine is deleted")
		}
	}
	w.givenBack(s)
}

func TestDeletedPoolIsReplacedForNewMachinesOnly(t *testing.T) {
	w, s := served(t, 4, nil, "--max-nodes-per-pool=2")
	var gone fakeazure.PoolState
	for _, p := range w.azure.State().Pools {
		if weather.Ours(p.Tags) {
			gone = p
		}
	}
	require.Len(t, gone.Machines, 2)
	for _, c := range w.listClaims() {
		if slices.Contains(gone.Machines, c.Status.ProviderID) {
			w.checker.Taken[c.Name] = true
			s.want[c.Name] = "NodeGone"
		}
	}
	require.Len(t, w.checker.Taken, 2)
	w.azure.RemovePool(gone.Name)
	w.until("only the owners see it", func() bool { return w.exactly(s.want) == "" })
	s.ask(w, ready)
	w.until("a later Machine gets a node", func() bool { return w.exactly(s.want) == "" })
	w.givenBack(s)
}

func TestStoppedClusterIsNotWrittenTo(t *testing.T) {
	w, s := served(t, 3, nil)
	for _, state := range []fakeazure.PowerState{fakeazure.PowerStopping, fakeazure.PowerStopped, fakeazure.PowerStarting} {
		w.azure.SetPower(state)
		w.rounds(long / 3)
		w.crash()
		w.rounds(long / 3)
		assert.Empty(t, w.exactly(s.want), state)
	}
	s.release(w, 1)
	s.ask(w, ready, ready)
	w.rounds(long)
	for _, m := range w.listMachines() {
		if c := m.GetCondition("MachineLaunched"); m.DeletionTimestamp.IsZero() && c != nil &&
			c.Status == corev1.ConditionUnknown {
			assert.Equal(t, "ClusterNotRunning", c.Reason, "%s says what it waits for", m.Name)
		}
	}
	w.azure.SetPower(fakeazure.PowerRunning)
	w.until("requests made meanwhile are served", func() bool { return w.exactly(s.want) == "" })
	w.givenBack(s)
}

func TestClusterThatStopsBeforeTheWriteIsNotWrittenTo(t *testing.T) {
	w, s := newWorld(t, nil, "--refresh-active=60s", "--gather=5s"), &scene{want: map[string]outcome{}}
	t.Cleanup(w.close)
	s.ask(w, ready)
	w.step(time.Second, command{Steps: order})
	w.step(time.Second, command{Steps: order})
	require.Positive(t, w.azure.State().Calls["listPools"], "it has looked")
	w.azure.SetPower(fakeazure.PowerStopping)
	for range 20 {
		w.step(time.Second, command{Steps: order})
	}
	require.Empty(t, w.azure.State().Writes)
	w.azure.SetPower(fakeazure.PowerRunning)
	w.until("it continues", func() bool { return w.exactly(s.want) == "" })
	w.givenBack(s)
}

func TestClusterThatStopsDuringACreationContinues(t *testing.T) {
	w, s := newWorld(t, nil), &scene{want: map[string]outcome{}}
	t.Cleanup(w.close)
	s.ask(w, ready, ready)
	w.until("Azure is asked", func() bool { return w.writes("putPool") == 1 })
	w.azure.SetPower(fakeazure.PowerStopped)
	w.rounds(long)
	w.azure.SetPower(fakeazure.PowerRunning)
	w.until("both are Ready", func() bool { return w.exactly(s.want) == "" })
	assert.Equal(t, 2, w.booted)
	w.givenBack(s)
}

func TestPoolOfAnotherOwnerWithOurNameIsKept(t *testing.T) {
	w, s := served(t, 1, nil)
	var name string
	for _, p := range w.azure.State().Pools {
		if weather.Ours(p.Tags) {
			name = p.Name
		}
	}
	w.givenBack(s)
	w.addForeign(name, 2)
	s.ask(w, ready)
	w.until("it has a pool of another name", func() bool { return w.exactly(s.want) == "" })
	w.givenBack(s)
	for _, write := range w.azure.State().Writes[2:] {
		assert.NotEqual(t, name, write.Pool)
	}
	state := w.azure.State()
	i := slices.IndexFunc(state.Pools, func(p fakeazure.PoolState) bool { return p.Name == name })
	require.NotEqual(t, -1, i)
	assert.Len(t, state.Pools[i].Machines, 2)
}
