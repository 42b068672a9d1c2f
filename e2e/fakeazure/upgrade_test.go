// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

// calls is a node side that records its calls in order.
type calls struct {
	mutex sync.Mutex
	lines []string
}

func (n *calls) note(line string) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.lines = append(n.lines, line)
	return nil
}

func (n *calls) Join(_ context.Context, vm fakeazure.VM) error {
	if vm.NotReady {
		return n.note("not ready " + vm.Name)
	}
	return n.note("ready " + vm.Name)
}

func (n *calls) Leave(_ context.Context, vm fakeazure.VM) error { return n.note("leave " + vm.Name) }

// since settles the cloud, and returns the recorded calls after the first n.
func (n *calls) since(t *testing.T, a *azure, from int) []string {
	t.Helper()
	require.NoError(t, a.server.Settle(t.Context()))
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return slices.Clone(n.lines[from:])
}

// short are durations that a test steps through.
var short = fakeazure.Durations{
	CreatePool:     30 * time.Second,
	Scale:          30 * time.Second,
	DeletePool:     20 * time.Second,
	DeleteMachines: 20 * time.Second,
	VMBoot:         10 * time.Second,
	NodeJoin:       10 * time.Second,
}

func (a *azure) state(pool string) fakeazure.PoolState {
	a.t.Helper()
	state := a.server.State()
	i := slices.IndexFunc(state.Pools, func(p fakeazure.PoolState) bool { return p.Name == pool })
	require.NotEqual(a.t, -1, i, "there is no pool %s", pool)
	return state.Pools[i]
}

func TestUpgradeAddsAndRemovesSurgeMachines(t *testing.T) {
	for state, nodeImage := range map[string]bool{"Upgrading": false, "UpgradingNodeImageVersion": true} {
		t.Run(state, func(t *testing.T) {
			nodes := &calls{}
			a := newAzure(t, func(o *fakeazure.Options) { o.Durations, o.Nodes = short, nodes })
			a.mustPut("gpu1", gpuPool(a100, 2))
			before, n := a.names("gpu1"), len(nodes.since(t, a, 0))
			a.server.UpgradePool(fakeazure.Upgrade{Pool: "gpu1", NodeImage: nodeImage})
			assert.Equal(t, state, *a.get("gpu1").ProvisioningState)
			a.clock.Step(10 * time.Second)
			during := a.names("gpu1")
			require.Len(t, during, 3, "the surge machine is in the list of machines")
			assert.Equal(t, before, during[:2])
			assert.EqualValues(t, 2, *a.get("gpu1").Count)
			assert.Len(t, a.state("gpu1").Surge, 1)
			_, err := a.beginPut("gpu1", gpuPool(a100, 3))
			assert.Contains(t, refused(t, err, 409, "OperationNotAllowed").text, "Another operation (Upgrading) is in progress")

			a.clock.Step(10 * time.Second)
			assert.ElementsMatch(
				t, []string{"ready " + during[2], "not ready " + before[0]}, nodes.since(t, a, n),
				"the surge machine joins, then the first old one is reimaged",
			)
			a.clock.Step(10 * time.Second)
			assert.ElementsMatch(t, []string{"ready " + before[0], "not ready " + before[1]}, nodes.since(t, a, n+2))
			a.clock.Step(10 * time.Second)
			assert.ElementsMatch(t, []string{"ready " + before[1], "leave " + during[2]}, nodes.since(t, a, n+4))
			assert.Equal(t, "Succeeded", *a.get("gpu1").ProvisioningState)
			assert.Equal(t, before, a.names("gpu1"), "a reimaged machine is the same machine")
			assert.Empty(t, a.state("gpu1").Surge)
		})
	}
}

func TestUpgradeThatDeletesNodes(t *testing.T) {
	nodes := &calls{}
	a := newAzure(t, func(o *fakeazure.Options) { o.Durations, o.Nodes = short, nodes })
	a.mustPut("gpu1", gpuPool(a100, 1))
	name, n := a.names("gpu1")[0], len(nodes.since(t, a, 0))
	a.server.UpgradePool(fakeazure.Upgrade{Pool: "gpu1", DeletesNodes: true})
	a.clock.Step(20 * time.Second)
	assert.Contains(t, nodes.since(t, a, n), "leave "+name)
	a.clock.Step(10 * time.Second)
	assert.Contains(t, nodes.since(t, a, n+2), "ready "+name, "it is created again with its name")
}

func TestUpgradeKeepsASurgeMachineForEachUndrainable(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.Durations = short })
	a.mustPut("gpu1", gpuPool(a100, 2))
	a.server.UpgradePool(fakeazure.Upgrade{Pool: "gpu1", MaxSurge: 2, Undrainable: 1})
	a.clock.Step(time.Hour)
	assert.Equal(t, "Failed", *a.get("gpu1").ProvisioningState)
	assert.Len(t, a.names("gpu1"), 3)
	assert.EqualValues(t, 3, *a.get("gpu1").Count)
	assert.Empty(t, a.state("gpu1").Surge, "the kept machine is an ordinary one")
}

func TestSpotPoolIsUpgradedWithoutSurge(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.Durations = short })
	a.mustPut("gpu1", spotPool(a100, 1))
	a.server.UpgradePool(fakeazure.Upgrade{Pool: "gpu1", MaxSurge: 3})
	a.clock.Step(15 * time.Second)
	assert.Equal(t, "Upgrading", *a.get("gpu1").ProvisioningState)
	assert.Len(t, a.names("gpu1"), 1)
}

func TestUpgradeContinuesAfterARestart(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.Durations = short })
	a.mustPut("gpu1", gpuPool(a100, 1))
	a.server.UpgradePool(fakeazure.Upgrade{Pool: "gpu1"})
	a.clock.Step(15 * time.Second)
	require.NoError(t, a.server.Stop())
	again := restart(t, a.server.Options(), a.clock.Now())
	assert.Len(t, again.names("gpu1"), 2)
	again.clock.Step(time.Minute)
	assert.Len(t, again.names("gpu1"), 1)
	assert.Equal(t, "Succeeded", *again.get("gpu1").ProvisioningState)
}
