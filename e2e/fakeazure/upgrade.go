// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"time"
)

// Upgrade is an upgrade of one agent pool, by a user or a maintenance window.
// AKS adds surge machines, then cordons, drains and reimages the old ones in batches of the number of surge machines,
// and removes the surge machines at the end (https://learn.microsoft.com/azure/aks/upgrade-aks-node-pools-rolling). A
// reimaged machine keeps its name, its resource ID and its place in the list. The pool's count does not change.
type Upgrade struct {
	Pool string `json:"pool"`
	// NodeImage upgrades only the node image: the provisioning state is UpgradingNodeImageVersion instead of Upgrading.
	NodeImage bool `json:"nodeImage,omitempty"`
	// MaxSurge is the number of surge machines. 0: 1. Spot pools have none
	// (https://learn.microsoft.com/azure/aks/spot-node-pool), and neither have empty pools.
	MaxSurge int `json:"maxSurge,omitempty"`
	// DeletesNodes deletes the Node of a machine before the machine is reimaged, and creates it again with the same name.
	// Otherwise the Node is NotReady meanwhile.
	DeletesNodes bool `json:"deletesNodes,omitempty"`
	// Undrainable is the number of old machines that cannot be drained. They are quarantined: they remain unchanged, and
	// each keeps a surge machine. The upgrade fails, and the pool's count includes them (UndrainableNodeBehavior Cordon of
	// https://learn.microsoft.com/rest/api/aks/agent-pools/get).
	Undrainable int `json:"undrainable,omitempty"`
}

// rollout is an upgrade in progress.
type rollout struct {
	Upgrade
	Surge []int `json:"surge,omitempty"` // indexes of the surge machines
}

// reimage is the time at which a machine is reimaged.
type reimage struct {
	From        time.Time `json:"from"`
	Until       time.Time `json:"until"`
	DeletesNode bool      `json:"deletesNode,omitempty"`
	Down        bool      `json:"down,omitempty"` // the node side knows
}

func (u Upgrade) validate() error {
	switch {
	case u.Pool == "":
		return fmt.Errorf("upgrade.pool is empty; name an agent pool")
	case u.MaxSurge < 0 || u.Undrainable < 0:
		return fmt.Errorf("upgrade.maxSurge %d and upgrade.undrainable %d must not be negative", u.MaxSurge, u.Undrainable)
	}
	return nil
}

// upgrade starts an upgrade. AKS rejects it while another operation runs on the pool, and while the cluster does not
// run.
func (s *Server) upgrade(u Upgrade) {
	p := s.pools[u.Pool]
	if p == nil || p.Operation != "" || s.power != PowerRunning {
		return
	}
	old := len(p.Machines)
	surge := min(max(u.MaxSurge, 1), old)
	if p.spot() {
		surge = 0
	}
	d := s.options.Durations
	u.Undrainable = min(u.Undrainable, surge)
	op := s.start(p, "Upgrading", d.VMBoot+d.NodeJoin)
	op.Rollout = &rollout{Upgrade: u}
	p.ProvisioningState = stateUpgrading
	if u.NodeImage {
		p.ProvisioningState = stateUpgradingImage
	}
	for range surge {
		s.boot(p)
		m := p.Machines[len(p.Machines)-1]
		m.Surge = true
		op.Rollout.Surge = append(op.Rollout.Surge, m.Index)
	}
	// The old machines follow in batches. Each is unavailable for the time that a machine takes to register.
	for i, m := range p.Machines[u.Undrainable:max(old, u.Undrainable)] {
		from := op.Start.Add(d.VMBoot + d.NodeJoin + time.Duration(i/max(surge, 1))*d.NodeJoin)
		m.Reimage = &reimage{From: from, Until: from.Add(d.NodeJoin), DeletesNode: u.DeletesNodes}
		op.Due = m.Reimage.Until
	}
}

// rolled ends an upgrade: surge machines are removed, except for one that replaces each quarantined machine.
func (s *Server) rolled(p *pool, op *operation) {
	kept := op.Rollout.Undrainable
	for i, index := range op.Rollout.Surge {
		m := p.find(index)
		switch {
		case m == nil: // evicted meanwhile
		case i < kept:
			m.Surge = false
			p.Count++
		default:
			s.leave(p, m)
		}
	}
	if kept > 0 {
		op.Status, p.ProvisioningState = operationFailed, stateFailed
		op.Error = &apiError{
			Code:    "UpgradeFailed",
			Message: fmt.Sprintf("Drain of %d nodes failed: too many requests due to pod disruption budgets.", kept),
		}
	}
}

// reimaging removes and restores the Node of a machine while the machine is reimaged.
func (s *Server) reimaging(p *pool, m *machine, now time.Time) {
	r := m.Reimage
	if r == nil || now.Before(r.From) {
		return
	}
	s.dirty = true
	if now.Before(r.Until) {
		if !r.Down && m.Joined {
			r.Down = true
			vm := s.vm(p, m)
			vm.NotReady = true
			s.pending = append(s.pending, nodeEvent{VM: vm, Leave: r.DeletesNode})
		}
		return
	}
	m.Reimage = nil
	if m.Joined {
		s.pending = append(s.pending, nodeEvent{VM: s.vm(p, m)})
	}
}

// nextReimage returns the time of the machine's next change, or zero.
func (m *machine) nextReimage() time.Time {
	switch {
	case m.Reimage == nil:
		return time.Time{}
	case m.Reimage.Down || !m.Joined:
		return m.Reimage.Until
	}
	return m.Reimage.From
}
