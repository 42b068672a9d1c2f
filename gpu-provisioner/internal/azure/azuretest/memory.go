// SPDX-License-Identifier: Apache-2.0

package azuretest

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Memory is an Azure whose operations run until the test ends them, or until they are polled if Auto is set.
type Memory struct {
	mu      sync.Mutex
	cluster azure.Cluster
	pools   map[string]*azure.Pool
	specs   map[string]azure.Spec
	running map[string]operation      // by pool
	ended   map[string]azure.Progress // by token
	token   int
	serial  int
	calls   []string
	reads   int
	looks   int
	usages  []azure.Usage
	fail    map[string]fault
	lists   map[string]Distortion
	always  map[string]error // by verb
	lost    map[string]bool  // tokens
	down    error

	// Auto ends an operation successfully when it is polled. Set it before use.
	Auto bool
	// PageSize makes each further page of a list of machines count as a call. 0: one page. Set it before use.
	PageSize int
	// Booted and Gone are called, without the lock, when machines are created and deleted. Set them before use.
	Booted, Gone func(pool string, m azure.Machine)
	told         []func()
}

// Distortion converts a pool's machines to the list that Azure returns.
type Distortion func([]azure.Machine) ([]azure.Machine, error)

type operation struct {
	token  string
	finish func(*azure.Pool)
}

type fault struct {
	err   error
	after bool
}

// New returns a running cluster without pools.
func New() *Memory {
	return &Memory{
		cluster: azure.Cluster{
			Location:          "eastus",
			PowerState:        "Running",
			ProvisioningState: "Succeeded",
		},
		pools:   map[string]*azure.Pool{},
		specs:   map[string]azure.Spec{},
		running: map[string]operation{},
		ended:   map[string]azure.Progress{},
		fail:    map[string]fault{},
		lists:   map[string]Distortion{},
		always:  map[string]error{},
		lost:    map[string]bool{},
	}
}

// ProviderID returns the provider ID of the nth machine that was created, in that pool.
func ProviderID(pool string, n int) string {
	return azure.ProviderID(
		fmt.Sprintf(
			"/subscriptions/s/resourceGroups/mc/providers/Microsoft.Compute/virtualMachineScaleSets/aks-%s-31415926-vmss/virtualMachines/%d",
			pool, n,
		),
	)
}

// SetPower sets the cluster's power state.
func (m *Memory) SetPower(state string) {
	defer m.lock()()
	m.cluster.PowerState = state
}

// SetDown makes each read fail. Nil: reads succeed.
func (m *Memory) SetDown(err error) {
	defer m.lock()()
	m.down = err
}

// SetUsages sets the compute usages.
func (m *Memory) SetUsages(usages ...azure.Usage) {
	defer m.lock()()
	m.usages = usages
}

// FailNext makes the next write of the verb (create, resize, delete, deleteMachines, abort) fail. With after, it fails
// after it has taken effect.
func (m *Memory) FailNext(verb string, err error, after bool) {
	defer m.lock()()
	m.fail[verb] = fault{err, after}
}

// FailAll makes each write of the verb, or each poll (look), fail without effect. Nil: they succeed.
func (m *Memory) FailAll(verb string, err error) {
	defer m.lock()()
	m.always[verb] = err
}

// Forget makes Azure no longer know the operation that runs on a pool. It still runs.
func (m *Memory) Forget(pool string) {
	defer m.lock()()
	m.lost[m.running[pool].token] = true
}

// Distort changes the lists of a pool's machines with fn. Nil: they are correct.
func (m *Memory) Distort(pool string, fn Distortion) {
	defer m.lock()()
	m.lists[pool] = fn
}

// Calls returns the writes so far.
func (m *Memory) Calls() []string {
	defer m.lock()()
	return slices.Clone(m.calls)
}

// Cost returns the number of all calls so far.
func (m *Memory) Cost() int {
	defer m.lock()()
	return m.reads + len(m.calls)
}

// Polls returns how often operations were polled.
func (m *Memory) Polls() int {
	defer m.lock()()
	return m.looks
}

// Names returns the names of the pools.
func (m *Memory) Names() []string {
	defer m.lock()()
	return slices.Sorted(maps.Keys(m.pools))
}

// Spec returns the Spec of a pool.
func (m *Memory) Spec(pool string) azure.Spec {
	defer m.lock()()
	return m.specs[pool]
}

// Arrive creates one machine of a pool.
func (m *Memory) Arrive(pool string) {
	defer m.lock()()
	m.arrive(m.pools[pool])
}

// Vanish removes a pool with its machines, as another client would.
func (m *Memory) Vanish(pool string) {
	defer m.lock()()
	m.drop(m.pools[pool], func(azure.Machine) bool { return true })
	delete(m.pools, pool)
}

// End ends the operation of a pool. With an error the operation fails after arrive machines were created.
func (m *Memory) End(pool string, err *azure.Error, arrived int) {
	defer m.lock()()
	m.end(pool, err, arrived)
}

func (m *Memory) end(pool string, err *azure.Error, arrived int) {
	p, op := m.pools[pool], m.running[pool]
	delete(m.running, pool)
	p.State = azure.StateSucceeded
	if err == nil {
		op.finish(p)
	} else {
		for range arrived {
			m.arrive(p)
		}
		p.State = azure.StateFailed
	}
	m.ended[op.token] = azure.Progress{Done: true, Err: err}
}

func (m *Memory) fill(p *azure.Pool) {
	for len(p.Machines) < p.Count {
		m.arrive(p)
	}
}

func (m *Memory) arrive(p *azure.Pool) {
	machine := azure.Machine{Name: fmt.Sprintf("m%d", m.serial), ProviderID: ProviderID(p.Name, m.serial)}
	m.serial++
	p.Machines = append(p.Machines, machine)
	if m.Booted != nil {
		name := p.Name
		m.told = append(m.told, func() { m.Booted(name, machine) })
	}
}

func (m *Memory) drop(p *azure.Pool, gone func(azure.Machine) bool) {
	for _, machine := range p.Machines {
		if gone(machine) && m.Gone != nil {
			name := p.Name
			m.told = append(m.told, func() { m.Gone(name, machine) })
		}
	}
	p.Machines = slices.DeleteFunc(p.Machines, gone)
}

// lock returns the unlock function, which reports the machines that were created and deleted meanwhile.
func (m *Memory) lock() func() {
	m.mu.Lock()
	return func() {
		told := m.told
		m.told = nil
		m.mu.Unlock()
		for _, tell := range told {
			tell()
		}
	}
}
