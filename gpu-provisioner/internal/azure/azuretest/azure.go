// SPDX-License-Identifier: Apache-2.0

package azuretest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Spare returns true.
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

// CreatePool starts the creation of a pool.
func (m *Memory) CreatePool(_ context.Context, name string, spec azure.Spec) (azure.Handle, error) {
	defer m.lock()()
	if m.pools[name] != nil {
		m.calls = append(m.calls, "create "+name+" refused")
		return azure.Handle{}, &azure.Error{
			Class: azure.ClassConflict, Reason: karpenterv1alpha5.ReasonClusterBusy, Message: "exists",
		}
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

// ResizePool starts a change of a pool's count.
func (m *Memory) ResizePool(_ context.Context, p *azure.Pool, count int) (azure.Handle, error) {
	defer m.lock()()
	return m.write("resize", azure.OperationPut, p.Name, fmt.Sprintf(" %d", count), func() {
		m.pools[p.Name].Count, m.pools[p.Name].State = count, "Scaling"
	}, m.fill)
}

// DeletePool starts the deletion of a pool.
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

// DeleteMachines starts the deletion of machines, by name.
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

// Abort starts the abort of a pool's operation.
func (m *Memory) Abort(_ context.Context, pool string) (azure.Handle, error) {
	defer m.lock()()
	return m.write("abort", azure.OperationAbort, pool, "", func() {}, func(*azure.Pool) {})
}

// Poll reads the progress of an operation.
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

// write is one write to a pool. It fails because of a planned fault or, as in AKS, a running operation.
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
		return azure.Handle{}, &azure.Error{Class: azure.ClassConflict, Reason: karpenterv1alpha5.ReasonClusterBusy}
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
