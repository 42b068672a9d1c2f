// SPDX-License-Identifier: Apache-2.0

package fakeazure

// Events that happen without a call. The caller of each function holds the mutex.

func (s *Server) removePool(name string) {
	p := s.pools[name]
	if p == nil {
		return
	}
	for len(p.Machines) > 0 {
		s.leave(p, p.Machines[0])
	}
	if op := s.operations[p.Operation]; op != nil {
		op.Status, op.Error = operationFailed, &apiError{
			Code:    "NotFound",
			Message: "The agent pool was deleted while the operation ran.",
		}
	}
	delete(s.pools, name)
}

// evict removes a machine and lowers the pool's count, like a scale set with the eviction policy Delete.
func (s *Server) evict(providerID string) {
	for _, p := range s.pools {
		for _, m := range p.Machines {
			if s.vm(p, m).ProviderID == providerID {
				if !m.Surge {
					p.Count--
				}
				s.leave(p, m)
				p.ETag++
				return
			}
		}
	}
}

// evictSpot removes the first n spot machines, by pool name and age.
func (s *Server) evictSpot(n int) {
	for _, name := range s.poolNames() {
		p := s.pools[name]
		for p.spot() && n > 0 && len(p.Machines) > 0 {
			s.evict(s.vm(p, p.Machines[0]).ProviderID)
			n--
		}
	}
}

func (s *Server) addPool(f ForeignPool) {
	p := &pool{
		Name:              f.Name,
		Properties:        map[string]any{"vmSize": f.Size, "mode": "User", "osType": "Linux"},
		Tags:              f.Tags,
		Count:             f.Count,
		ProvisioningState: stateSucceeded,
		ETag:              1,
	}
	for range f.Count {
		s.boot(p)
		m := p.Machines[len(p.Machines)-1]
		m.Listed, m.JoinAt = s.now(), s.now()
	}
	s.pools[f.Name] = p
}

func (s *Server) changeNode(change NodeChange) {
	for _, p := range s.pools {
		for _, m := range p.Machines {
			if s.vm(p, m).ProviderID != change.ProviderID {
				continue
			}
			m.NotReady, m.NoGPU = change.NotReady, change.NoGPU
			if m.Joined {
				s.pending = append(s.pending, nodeEvent{VM: s.vm(p, m)})
			}
		}
	}
}

func (s *Server) setQuota(quota map[string]Quota) {
	families := map[string]Quota{}
	for name, q := range s.options.FamilyQuota {
		families[name] = q
	}
	for name, q := range quota {
		switch name {
		case regionalCores:
			s.options.RegionalQuota = q
		case spotCores:
			s.options.SpotQuota = q
		default:
			families[name] = q
		}
	}
	s.options.FamilyQuota = families
}
