// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"net/http"
	"strconv"
)

func (s *Server) boot(p *pool) {
	d, now := s.options.Durations, s.now()
	m := &machine{Index: p.Next, Listed: now.Add(d.VMBoot), JoinAt: now.Add(d.VMBoot + d.NodeJoin)}
	if zones := p.texts("availabilityZones"); len(zones) > 0 {
		m.Zone = zones[p.Next%len(zones)]
	}
	if f := s.matchMachine(p); f != nil {
		m.Never, m.NoGPU, m.NotReady = f.NeverJoins, f.NoGPU, f.NotReady
	}
	p.Next++
	p.Machines = append(p.Machines, m)
}

func (s *Server) deleteMachines(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	if err := s.busy(p); err != nil {
		return err
	}
	var body struct {
		MachineNames []string `json:"machineNames"`
	}
	if err := decode(c.body, &body); err != nil {
		return err
	}
	var gone []int
	for _, name := range body.MachineNames {
		index, ok := indexOf(name)
		if !ok || p.find(index) == nil || machineName(p.Name, index) != name {
			return &apiError{
				HTTP:    http.StatusBadRequest,
				Code:    "InvalidParameter",
				AKS:     true,
				Message: fmt.Sprintf("Cannot find machine %s in agent pool %s.", name, p.Name),
			}
		}
		gone = append(gone, index)
	}
	op := s.begin(c, p, "DeletingMachines", s.options.Durations.DeleteMachines)
	op.Gone = gone
	p.ProvisioningState = stateDeleting
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) listMachines(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	var items []item
	for _, m := range s.listed(p) {
		items = append(items, item{machineName(p.Name, m.Index), s.renderMachine(p, m)})
	}
	s.page(c, s.garbled(c, p, items))
	return nil
}

func (s *Server) getMachine(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	if index, ok := indexOf(c.name); ok {
		if m := p.find(index); m != nil && !m.Listed.After(s.now()) {
			respond(c.w, http.StatusOK, s.renderMachine(p, m))
			return nil
		}
	}
	return &apiError{HTTP: http.StatusNotFound, Code: "NotFound", AKS: true, Message: "Machine not found."}
}

func (s *Server) renderMachine(p *pool, m *machine) map[string]any {
	return map[string]any{
		"id":   s.clusterID() + "/agentPools/" + p.Name + "/machines/" + machineName(p.Name, m.Index),
		"name": machineName(p.Name, m.Index), "type": "Microsoft.ContainerService/managedClusters/agentPools/machines",
		"properties": map[string]any{
			"resourceId": s.resourceID(p, m),
			"network": map[string]any{
				"ipAddresses": []any{map[string]any{"family": "IPv4", "ip": "10.224.0." + strconv.Itoa(4+m.Index%250)}},
			},
		},
	}
}
