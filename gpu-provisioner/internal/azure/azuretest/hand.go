// SPDX-License-Identifier: Apache-2.0

package azuretest

import "kaito.sh/gpu-provisioner/internal/azure"

// Retag replaces a pool's tags, as `az aks nodepool update --tags` does.
func (m *Memory) Retag(pool string, tags map[string]string) {
	defer m.lock()()
	m.pools[pool].Tags = tags
}

// Autoscale turns a pool's cluster autoscaler on or off.
func (m *Memory) Autoscale(pool string, on bool) {
	defer m.lock()()
	m.pools[pool].Autoscaled = on
}

// Upgrade starts an upgrade of a pool and adds surge machines. EndUpgrade removes them.
func (m *Memory) Upgrade(pool string, surge int) {
	defer m.lock()()
	p := m.pools[pool]
	p.State = "Upgrading"
	for range surge {
		m.arrive(p)
	}
}

// EndUpgrade ends an upgrade successfully and removes the machines beyond the pool's count.
func (m *Memory) EndUpgrade(pool string) {
	defer m.lock()()
	p := m.pools[pool]
	surge := map[string]bool{}
	for _, machine := range p.Machines[p.Count:] {
		surge[machine.Name] = true
	}
	m.drop(p, func(machine azure.Machine) bool { return surge[machine.Name] })
	p.State = azure.StateSucceeded
}
