// SPDX-License-Identifier: Apache-2.0

// Package azuretest has an Azure in memory for tests of what stands above the wire. What goes over the wire is tested
// against the fake Azure of e2e, which speaks the real protocol.
package azuretest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Memory is an Azure whose operations run until the test ends them, or until they are looked at when Auto is set.
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

	// Auto ends an operation, well, when it is looked at. Set before use.
	Auto bool
	// PageSize has each further page of a list of machines count as a call; 0: there is one page. Set before use.
	PageSize int
	// Booted and Gone are told of machines as they come and go. Set before use; called without the lock.
	Booted, Gone func(pool string, m azure.Machine)
	told         []func()
}

// Distortion makes of a pool's machines what Azure answers when they are listed.
type Distortion func([]azure.Machine) ([]azure.Machine, error)

type operation struct {
	token  string
	finish func(*azure.Pool)
}

type fault struct {
	err   error
	after bool
}

// New returns an empty cluster that runs.
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

// ProviderID is that of the nth machine ever made, in the pool.
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

// SetDown makes every read fail; nil ends that.
func (m *Memory) SetDown(err error) {
	defer m.lock()()
	m.down = err
}

// SetUsages sets the compute usages.
func (m *Memory) SetUsages(usages ...azure.Usage) {
	defer m.lock()()
	m.usages = usages
}

// FailNext makes the next write of the verb (create, resize, delete, deleteMachines, abort) fail; with after, when it
// has taken effect.
func (m *Memory) FailNext(verb string, err error, after bool) {
	defer m.lock()()
	m.fail[verb] = fault{err, after}
}

// FailAll makes every write of the verb, or every look at an operation (look), fail without effect; nil ends that.
func (m *Memory) FailAll(verb string, err error) {
	defer m.lock()()
	m.always[verb] = err
}

// Forget has Azure not know the operation that runs on a pool; it runs nevertheless.
func (m *Memory) Forget(pool string) {
	defer m.lock()()
	m.lost[m.running[pool].token] = true
}

// Distort has Azure answer the lists of a pool's machines by fn; nil ends that.
func (m *Memory) Distort(pool string, fn Distortion) {
	defer m.lock()()
	m.lists[pool] = fn
}

// Calls lists the writes so far.
func (m *Memory) Calls() []string {
	defer m.lock()()
	return slices.Clone(m.calls)
}

// Cost is the number of all calls so far.
func (m *Memory) Cost() int {
	defer m.lock()()
	return m.reads + len(m.calls)
}

// Looks is how often operations were looked at.
func (m *Memory) Polls() int {
	defer m.lock()()
	return m.looks
}

// Names lists the pools.
func (m *Memory) Names() []string {
	defer m.lock()()
	return slices.Sorted(maps.Keys(m.pools))
}

// Spec is what a pool was made of.
func (m *Memory) Spec(pool string) azure.Spec {
	defer m.lock()()
	return m.specs[pool]
}

// Arrive lets one machine of a pool appear.
func (m *Memory) Arrive(pool string) {
	defer m.lock()()
	m.arrive(m.pools[pool])
}

// Vanish removes a pool with its machines, as somebody else's hand would.
func (m *Memory) Vanish(pool string) {
	defer m.lock()()
	m.drop(m.pools[pool], func(azure.Machine) bool { return true })
	delete(m.pools, pool)
}

// End ends the operation of a pool. With an error the pool has failed, after so many machines have come.
func (m *Memory) End(pool string, err *azure.Error, arrived int) {
	defer m.lock()()
	m.end(pool, err, arrived)
}

// Spare: there is always room.
func (m *Memory) Spare() bool { return true }

// Cluster reads the cluster.
func (m *Memory) Cluster(context.Context) (azure.Cluster, error) {
	defer m.lock()()
	m.reads++
	return m.cluster, m.down
}

// Pools lists the pools.
func (m *Memory) Pools(context.Context) ([]azure.Pool, error) {
	defer m.lock()()
	m.reads++
	var out []azure.Pool
	for _, name := range slices.Sorted(maps.Keys(m.pools)) {
		p := *m.pools[name]
		p.Machines = nil
		out = append(out, p)
	}
	return out, m.down
}

// Machines lists a pool's machines.
func (m *Memory) Machines(_ context.Context, pool string) ([]azure.Machine, error) {
	defer m.lock()()
	m.reads++
	if m.pools[pool] == nil {
		return nil, &azure.Error{Class: azure.ClassGone, Reason: azure.ReasonNotFound}
	}
	if m.PageSize > 0 {
		m.reads += max(0, len(m.pools[pool].Machines)-1) / m.PageSize // each further page is a call
	}
	machines := slices.Clone(m.pools[pool].Machines)
	if distort := m.lists[pool]; distort != nil && m.down == nil {
		return distort(machines)
	}
	return machines, m.down
}

// Usages lists the compute usages.
func (m *Memory) Usages(context.Context, string) ([]azure.Usage, error) {
	defer m.lock()()
	m.reads++
	return m.usages, m.down
}

// CreatePool starts making a pool.
func (m *Memory) CreatePool(_ context.Context, name string, spec azure.Spec) (azure.Handle, error) {
	defer m.lock()()
	if m.pools[name] != nil {
		m.calls = append(m.calls, "create "+name+" refused")
		return azure.Handle{}, &azure.Error{Class: azure.ClassConflict, Reason: azure.ReasonClusterBusy, Message: "exists"}
	}
	return m.write("create", azure.OperationPut, name, fmt.Sprintf(" %d", spec.Count), func() {
		m.specs[name] = spec
		m.pools[name] = &azure.Pool{
			Name:  name,
			State: "Creating",
			Count: spec.Count,
			Tags:  spec.Tags,
			Size:  spec.Size,
			Spot:  spec.Spot,
			Zones: spec.Zones,
		}
	}, m.fill)
}

// ResizePool starts changing a pool's count.
func (m *Memory) ResizePool(_ context.Context, p *azure.Pool, count int) (azure.Handle, error) {
	defer m.lock()()
	return m.write("resize", azure.OperationPut, p.Name, fmt.Sprintf(" %d", count), func() {
		m.pools[p.Name].Count, m.pools[p.Name].State = count, "Scaling"
	}, m.fill)
}

// DeletePool starts deleting a pool.
func (m *Memory) DeletePool(_ context.Context, p *azure.Pool) (azure.Handle, error) {
	defer m.lock()()
	return m.write(
		"delete",
		azure.OperationDelete,
		p.Name,
		"",
		func() { m.pools[p.Name].State = azure.StateDeleting },
		func(p *azure.Pool) {
			m.drop(p, func(azure.Machine) bool { return true })
			delete(m.pools, p.Name)
		},
	)
}

// DeleteMachines starts deleting machines by name.
func (m *Memory) DeleteMachines(_ context.Context, pool string, names []string) (azure.Handle, error) {
	defer m.lock()()
	return m.write(
		"deleteMachines",
		azure.OperationDeleteMachines,
		pool,
		fmt.Sprint(" ", names),
		func() { m.pools[pool].State = "Deleting machines" },
		func(p *azure.Pool) {
			m.drop(p, func(x azure.Machine) bool { return slices.Contains(names, x.Name) })
			p.Count = len(p.Machines)
		},
	)
}

// Abort starts aborting a pool's operation.
func (m *Memory) Abort(_ context.Context, pool string) (azure.Handle, error) {
	defer m.lock()()
	return m.write("abort", azure.OperationAbort, pool, "", func() {}, func(*azure.Pool) {})
}

// Look looks at an operation.
func (m *Memory) Poll(_ context.Context, h azure.Handle) (azure.Progress, error) {
	defer m.lock()()
	m.reads++
	m.looks++
	if planned, ok := m.fail["look"]; ok {
		delete(m.fail, "look")
		return azure.Progress{}, planned.err
	}
	if err := m.always["look"]; err != nil {
		return azure.Progress{}, err
	}
	if m.lost[h.Token] {
		return azure.Progress{Lost: true}, nil
	}
	if m.Auto && m.running[h.Pool].finish != nil && m.down == nil {
		m.end(h.Pool, nil, 0)
	}
	if p, ok := m.ended[h.Token]; ok {
		return p, nil
	}
	return azure.Progress{Next: time.Second}, m.down
}

// write is one write to a pool: refused by a planned fault, or by a running operation, as AKS does.
func (m *Memory) write(
	verb string, kind azure.OperationKind, pool, detail string, effect func(), end func(*azure.Pool),
) (azure.Handle, error) {
	m.calls = append(m.calls, verb+" "+pool+detail)
	if err := m.always[verb]; err != nil {
		return azure.Handle{}, err
	}
	planned := m.fail[verb]
	delete(m.fail, verb)
	if planned.err != nil && !planned.after {
		return azure.Handle{}, planned.err
	}
	if m.running[pool].finish != nil && kind != azure.OperationAbort {
		return azure.Handle{}, &azure.Error{Class: azure.ClassConflict, Reason: azure.ReasonClusterBusy}
	}
	effect()
	m.token++
	token := fmt.Sprint(m.token)
	m.running[pool] = operation{token: token, finish: end}
	if planned.err != nil {
		return azure.Handle{}, planned.err
	}
	return azure.Handle{Kind: kind, Pool: pool, Token: token}, nil
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

// lock returns what unlocks, and then tells of the machines that came and went meanwhile.
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
