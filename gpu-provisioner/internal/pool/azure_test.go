package pool

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// memory is an Azure in memory whose operations run until a test ends them.
type memory struct {
	cluster azure.Cluster
	pools   map[string]*azure.Pool
	specs   map[string]azure.Spec
	running map[string]func(*azure.Pool) *azure.Error // by pool: what ending it does
	ended   map[string]azure.Progress                 // by token
	token   int
	serial  int
	calls   []string // writes
	reads   int
	usages  []azure.Usage
	// fail makes the next write of that verb fail; before it took effect unless after is set.
	fail  map[string]error
	after bool
	down  error // every read fails with it
}

func newMemory() *memory {
	return &memory{
		cluster: azure.Cluster{Location: "eastus", PowerState: "Running", ProvisioningState: "Succeeded"}, pools: map[string]*azure.Pool{},
		specs: map[string]azure.Spec{}, running: map[string]func(*azure.Pool) *azure.Error{}, ended: map[string]azure.Progress{}, fail: map[string]error{},
	}
}

func (m *memory) Spare() bool { return true }

func (m *memory) Cluster(context.Context) (azure.Cluster, error) {
	m.reads++
	return m.cluster, m.down
}

func (m *memory) Pools(context.Context) ([]azure.Pool, error) {
	m.reads++
	var out []azure.Pool
	for _, name := range slices.Sorted(maps.Keys(m.pools)) {
		p := *m.pools[name]
		p.Machines = nil
		out = append(out, p)
	}
	return out, m.down
}

func (m *memory) Machines(_ context.Context, pool string) ([]azure.Machine, error) {
	m.reads++
	if m.pools[pool] == nil {
		return nil, &azure.Error{Class: azure.ClassGone, Reason: azure.ReasonNotFound}
	}
	return slices.Clone(m.pools[pool].Machines), m.down
}

func (m *memory) Usages(context.Context, string) ([]azure.Usage, error) {
	m.reads++
	return m.usages, m.down
}

// write is one write to a pool: refused by a planned fault, or by a running operation, as AKS does.
func (m *memory) write(verb string, kind azure.OperationKind, pool, detail string, effect func(), end func(*azure.Pool) *azure.Error) (azure.Handle, error) {
	m.calls = append(m.calls, verb+" "+pool+detail)
	err := m.fail[verb]
	delete(m.fail, verb)
	if err != nil && !m.after {
		return azure.Handle{}, err
	}
	if m.running[pool] != nil && kind != azure.OperationAbort {
		return azure.Handle{}, &azure.Error{Class: azure.ClassConflict, Reason: azure.ReasonClusterBusy}
	}
	effect()
	m.running[pool] = end
	m.token++
	h := azure.Handle{Kind: kind, Pool: pool, Token: fmt.Sprint(m.token)}
	if err != nil {
		return azure.Handle{}, err
	}
	return h, nil
}

func (m *memory) CreatePool(_ context.Context, name string, spec azure.Spec) (azure.Handle, error) {
	if m.pools[name] != nil {
		m.calls = append(m.calls, "create "+name+" refused")
		return azure.Handle{}, &azure.Error{Class: azure.ClassConflict, Reason: azure.ReasonClusterBusy, Message: "exists"}
	}
	return m.write("create", azure.OperationPut, name, fmt.Sprintf(" %d", spec.Count), func() {
		m.specs[name] = spec
		m.pools[name] = &azure.Pool{Name: name, State: "Creating", Count: spec.Count, Tags: spec.Tags, Size: spec.Size, Spot: spec.Spot, Zones: spec.Zones}
	}, m.fill)
}

func (m *memory) ResizePool(_ context.Context, p *azure.Pool, count int) (azure.Handle, error) {
	return m.write("resize", azure.OperationPut, p.Name, fmt.Sprintf(" %d", count), func() {
		m.pools[p.Name].Count, m.pools[p.Name].State = count, "Scaling"
	}, m.fill)
}

func (m *memory) fill(p *azure.Pool) *azure.Error {
	for len(p.Machines) < p.Count {
		m.arrive(p)
	}
	return nil
}

func (m *memory) arrive(p *azure.Pool) {
	p.Machines = append(p.Machines, azure.Machine{Name: fmt.Sprintf("m%d", m.serial), ProviderID: machineID(p.Name, m.serial)})
	m.serial++
}

func (m *memory) DeletePool(_ context.Context, p *azure.Pool) (azure.Handle, error) {
	return m.write("delete", azure.OperationDelete, p.Name, "", func() { m.pools[p.Name].State = azure.StateDeleting }, func(p *azure.Pool) *azure.Error {
		delete(m.pools, p.Name)
		return nil
	})
}

func (m *memory) DeleteMachines(_ context.Context, pool string, names []string) (azure.Handle, error) {
	return m.write("deleteMachines", azure.OperationDeleteMachines, pool, fmt.Sprint(" ", names), func() { m.pools[pool].State = "Deleting machines" }, func(p *azure.Pool) *azure.Error {
		p.Machines = slices.DeleteFunc(p.Machines, func(x azure.Machine) bool { return slices.Contains(names, x.Name) })
		p.Count = len(p.Machines)
		return nil
	})
}

func (m *memory) Abort(_ context.Context, pool string) (azure.Handle, error) {
	return m.write("abort", azure.OperationAbort, pool, "", func() {}, func(*azure.Pool) *azure.Error { return nil })
}

func (m *memory) Look(_ context.Context, h azure.Handle) (azure.Progress, error) {
	m.reads++
	if p, ok := m.ended[h.Token]; ok {
		return p, nil
	}
	return azure.Progress{Next: 1}, m.down
}

// end ends the operation of a pool; with an error the pool has failed, after the machines that how many says have come.
func (m *memory) end(pool string, err *azure.Error, arrived int) {
	p, finish := m.pools[pool], m.running[pool]
	delete(m.running, pool)
	p.State = azure.StateSucceeded
	if err == nil {
		err = finish(p)
	} else {
		for range arrived {
			m.arrive(p)
		}
		p.State = azure.StateFailed
	}
	m.ended[fmt.Sprint(m.token)] = azure.Progress{Done: true, Err: err}
}
