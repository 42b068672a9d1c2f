// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"maps"
)

// What a person does to an agent pool with az, the portal or a policy; every function's caller holds the mutex.

// Retag replaces all tags of an agent pool, as `az aks nodepool update --tags` does, and Azure Policy with the effect
// modify.
type Retag struct {
	Pool string `json:"pool"`
	// Tags are all tags that the pool has from now on.
	Tags map[string]string `json:"tags,omitempty"`
}

// Autoscale switches the cluster autoscaler of an agent pool on, or off when Max is 0. While it is on, AKS refuses a
// PUT that changes the count.
type Autoscale struct {
	Pool string `json:"pool"`
	Min  int    `json:"min,omitempty"`
	Max  int    `json:"max,omitempty"`
}

func (a Autoscale) validate() error {
	if a.Min < 0 || a.Max < a.Min {
		return fmt.Errorf("autoscale.min %d and autoscale.max %d must be 0 <= min <= max", a.Min, a.Max)
	}
	return nil
}

func (s *Server) retag(r Retag) {
	if p := s.pools[r.Pool]; p != nil {
		p.Tags, p.Retagged = maps.Clone(r.Tags), s.now()
		p.ETag++
	}
}

func (s *Server) autoscale(a Autoscale) {
	p := s.pools[a.Pool]
	if p == nil {
		return
	}
	p.ETag++
	p.Properties = maps.Clone(p.Properties)
	p.Properties["enableAutoScaling"] = a.Max > 0
	delete(p.Properties, "minCount")
	delete(p.Properties, "maxCount")
	if a.Max > 0 {
		// Numbers are what encoding/json makes of them, as those of a PUT.
		p.Properties["minCount"], p.Properties["maxCount"] = float64(a.Min), float64(a.Max)
	}
}

func (p *pool) autoscaled() bool {
	on, _ := p.Properties["enableAutoScaling"].(bool)
	return on
}

// UpgradePool starts an upgrade of an agent pool; nothing happens when AKS would refuse it: another operation runs on
// the pool, or the cluster does not run.
func (s *Server) UpgradePool(u Upgrade) { s.act(Event{Upgrade: &u}) }

// RetagPool replaces the tags of an agent pool.
func (s *Server) RetagPool(name string, tags map[string]string) {
	s.act(Event{Retag: &Retag{Pool: name, Tags: tags}})
}

// AutoscalePool switches the cluster autoscaler of an agent pool on with these limits, or off when most is 0.
func (s *Server) AutoscalePool(name string, least, most int) {
	s.act(Event{Autoscale: &Autoscale{Pool: name, Min: least, Max: most}})
}
