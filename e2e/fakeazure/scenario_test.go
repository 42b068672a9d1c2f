// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/shared/test/eventually"
)

func TestScenarioFileIsParsedStrictly(t *testing.T) {
	cases := []struct{ name, text, says string }{
		{"an unknown field", "faults: [{verb: putPool, knid: ServerError}]", "knid"},
		{"an unknown verb", "faults: [{verb: patchPool, kind: ServerError}]", `faults[0]: verb "patchPool" is not one of`},
		{
			"an unknown kind",
			"faults: [{kind: ServerError}, {kind: Fire}]",
			`faults[1]: kind "Fire" is not one of AllocationFailed,`,
		},
		{"two errors", "faults: [{kind: ServerError, error: {code: A, message: b}}]", "both set"},
		{"no fault at all", "faults: [{verb: putPool}]", "nothing happens"},
		{"async without an error", "faults: [{verb: putPool, async: true, hang: true}]", "async is set without an error"},
		{"an unknown moment of a drop", "faults: [{drop: during}]", `drop "during" is not one of before, after`},
		{"two events in one", "events: [{power: Stopped, evictSpot: 1}]", "events[0]: an event sets 2 of"},
		{"an event of nothing", "events: [{after: 5m}]", "events[0]: an event sets 0 of"},
		{"an unknown power state", "events: [{power: Halted}]", `power "Halted" is not one of`},
		{"an upgrade of no pool", "events: [{upgrade: {maxSurge: 1}}]", "upgrade.pool is empty"},
		{"an autoscaler upside down", "events: [{autoscale: {pool: a, min: 3, max: 1}}]", "autoscale.min 3"},
		{"a short list of less than nothing", "faults: [{verb: listMachines, short: -1}]", "short -1"},
		{"an event in the past", "events: [{after: -1s, evictSpot: 1}]", "in the past"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := fakeazure.ParseScenario([]byte(c.text))
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestScenarioPlaysItsEvents(t *testing.T) {
	a := newAzure(t, nil)
	a.mustPut("spot1", spotPool(a100, 3))
	admin := func(method, path, body string) (int, []byte) {
		request, err := http.NewRequestWithContext(
			t.Context(), method, a.server.AdminEndpoint()+path, strings.NewReader(body),
		)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode, text
	}
	played, _ := admin(http.MethodPost, "/admin/scenario", `
faults:
- {verb: putPool, times: 1, drop: after}
- {verb: putPool, times: 1, error: {http: 418, code: Teapot, message: short and stout}}
events:
- {after: 1m, evictSpot: 2}
- {after: 2m, addPool: {name: system, size: Standard_D4s_v5, count: 1, tags: {team: platform}}}
- {after: 3m, quota: {cores: {limit: 10}}}
- {after: 4m, removePool: spot1}
- {after: 5m, power: Stopped}
`)
	require.Equal(t, http.StatusNoContent, played)
	_, err := a.beginPut("gpu1", gpuPool(a100, 0))
	require.Error(t, err)
	_, err = a.beginPut("gpu2", gpuPool(a100, 0))
	refused(t, err, http.StatusTeapot, "Teapot")

	pool := func(name string) (fakeazure.PoolState, bool) {
		for _, p := range a.server.State().Pools {
			if p.Name == name {
				return p, true
			}
		}
		return fakeazure.PoolState{}, false
	}
	p, _ := pool("spot1")
	assert.Len(t, p.Machines, 3, "nothing has happened yet")
	oldest := p.Machines[:2]
	a.clock.Step(time.Minute)
	p, _ = pool("spot1")
	require.Len(t, p.Machines, 1)
	assert.NotContains(t, oldest, p.Machines[0])
	assert.Equal(t, 1, p.Count)
	a.clock.Step(time.Minute)
	system, there := pool("system")
	assert.True(t, there)
	assert.Equal(t, map[string]string{"team": "platform"}, system.Tags)
	a.clock.Step(time.Minute)
	_, err = a.beginPut("gpu3", gpuPool(a100, 1))
	refused(t, err, http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota")
	a.clock.Step(time.Minute)
	_, there = pool("spot1")
	assert.False(t, there)
	a.clock.Step(time.Minute)
	assert.Equal(t, "Stopped", a.server.State().PowerState)

	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodPut, "/admin/power/Running", "", http.StatusNoContent},
		{http.MethodPut, "/admin/power/Off", "", http.StatusBadRequest},
		{http.MethodPost, "/admin/scenario", "faults: [{}]", http.StatusBadRequest},
		{http.MethodDelete, "/admin/pools/system", "", http.StatusNoContent},
		{http.MethodDelete, "/admin/faults", "", http.StatusNoContent},
	} {
		status, _ := admin(c.method, c.path, c.body)
		assert.Equal(t, c.status, status, "%s %s", c.method, c.path)
	}
	var state fakeazure.State
	_, text := admin(http.MethodGet, "/admin/state", "")
	require.NoError(t, json.Unmarshal(text, &state))
	assert.Equal(t, "Running", state.PowerState)
	_, there = pool("system")
	assert.False(t, there)
}

// register is a node side that records its calls, and rejects joins while it is down.
type register struct {
	mutex   sync.Mutex
	down    bool
	refused int
	calls   []string
	nodes   map[string]fakeazure.VM
}

func (r *register) tell(what string, vm fakeazure.VM) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.down && what == "join" {
		r.refused++
		return errors.New("the API server is down")
	}
	r.calls = append(r.calls, what)
	if r.nodes == nil {
		r.nodes = map[string]fakeazure.VM{}
	}
	r.nodes[vm.ProviderID] = vm
	if what == "leave" {
		delete(r.nodes, vm.ProviderID)
	}
	return nil
}

func (r *register) setDown(down bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.down, r.refused = down, 0
}

func (r *register) refusals() int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.refused
}

func (r *register) Join(_ context.Context, vm fakeazure.VM) error  { return r.tell("join", vm) }
func (r *register) Leave(_ context.Context, vm fakeazure.VM) error { return r.tell("leave", vm) }

func (r *register) log() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return append([]string(nil), r.calls...)
}

func (r *register) all() []fakeazure.VM {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var out []fakeazure.VM
	for _, vm := range r.nodes {
		out = append(out, vm)
	}
	return out
}

func TestFailedNodeIsDeletedWithItsMachine(t *testing.T) {
	nodes := &register{down: true}
	a := newAzure(t, func(o *fakeazure.Options) { o.Nodes = nodes })
	refused := func(times int) {
		t.Helper()
		require.Eventually(t, func() bool { return nodes.refusals() >= times }, eventually.Short, eventually.Tick)
	}
	a.mustPut("gpu1", gpuPool(a100, 1))
	refused(1)
	a.server.Evict(a.server.State().Pools[0].Machines[0])
	nodes.setDown(true)
	refused(2)
	assert.Empty(t, nodes.log(), "Leave waits for Join")
	nodes.setDown(false)
	require.Eventually(t, func() bool { return len(nodes.log()) == 2 }, eventually.Short, eventually.Tick)
	assert.Equal(t, []string{"join", "leave"}, nodes.log())
}

func TestMachinesJoinLateOrNeverAndWhatTheyLack(t *testing.T) {
	nodes := &register{}
	a := newAzure(t, func(o *fakeazure.Options) { o.Nodes = nodes })
	a.server.AddFault(fakeazure.Fault{Verb: "putPool", Pool: "gpu1", Times: 1, NeverJoins: true})
	a.server.AddFault(fakeazure.Fault{Verb: "putPool", Pool: "gpu1", Times: 1, NoGPU: true})
	a.server.AddFault(fakeazure.Fault{Verb: "putPool", Pool: "gpu1", Times: 1, NotReady: true})
	poller, err := a.beginPut("gpu1", gpuPool(a100, 4))
	require.NoError(t, err)
	a.clock.Step(time.Minute)
	assert.Len(t, a.names("gpu1"), 4)
	assert.Empty(t, nodes.all(), "a VM that has just booted is not a Node yet")
	a.clock.Step(time.Hour)
	_, err = finish(t, poller)
	require.NoError(t, err, "AKS does not notice that a node never joined")
	require.Eventually(t, func() bool { return len(nodes.all()) == 3 }, eventually.Short, eventually.Tick)
	var noGPU, notReady, whole int
	for _, vm := range nodes.all() {
		assert.Equal(t, map[string]string{"team": "ml"}, vm.Labels)
		assert.Equal(t, []string{"sku=gpu:NoSchedule"}, vm.Taints)
		switch {
		case !vm.GPU:
			noGPU++
		case vm.NotReady:
			notReady++
		default:
			whole++
		}
	}
	assert.Equal(t, []int{1, 1, 1}, []int{noGPU, notReady, whole})
}

func TestRestartRepeatsMissedCallsOfTheNodeSide(t *testing.T) {
	nodes := &register{down: true}
	options := fakeazure.Options{Dir: t.TempDir(), Nodes: nodes}
	before := restart(t, options, start)
	before.mustPut("gpu1", gpuPool(a100, 1))
	require.Eventually(t, func() bool { return nodes.refusals() > 0 }, eventually.Short, eventually.Tick)
	require.NoError(t, before.server.Stop())
	nodes.setDown(false)
	restart(t, options, start.Add(time.Hour))
	require.Eventually(t, func() bool { return len(nodes.all()) == 1 }, eventually.Short, eventually.Tick)
}
