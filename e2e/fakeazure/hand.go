// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"maps"
)

// Changes of an agent pool by a user with az, the portal or a policy. The caller of each function holds the mutex.

// Retag replaces all tags of an agent pool, like `az aks nodepool update --tags` or Azure Policy with the effect
// modify.
type Retag struct {
	Pool string `json:"pool"`
	// Tags are all tags that the pool has afterwards.
	Tags map[string]string `json:"tags,omitempty"`
}

// Autoscale turns the cluster autoscaler of an agent pool on, or off if Max is 0. While it is on, AKS rejects a PUT
// that changes the count.
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
		// Numbers have the type that encoding/json uses, like those of a PUT.
		p.Properties["minCount"], p.Properties["maxCount"] = float64(a.Min), float64(a.Max)
	}
}

func (p *pool) autoscaled() bool {
	on, _ := p.Properties["enableAutoScaling"].(bool)
	return on
}

// UpgradePool starts an upgrade of an agent pool. It does nothing if AKS would reject it: another operation runs on the
// pool, or the cluster does not run.
func (s *Server) UpgradePool(u Upgrade) { s.act(Event{Upgrade: &u}) }

// RetagPool replaces the tags of an agent pool.
func (s *Server) RetagPool(name string, tags map[string]string) {
	s.act(Event{Retag: &Retag{Pool: name, Tags: tags}})
}

// AutoscalePool turns the cluster autoscaler of an agent pool on with these limits, or off if most is 0.
func (s *Server) AutoscalePool(name string, least, most int) {
	s.act(Event{Autoscale: &Autoscale{Pool: name, Min: least, Max: most}})
}
