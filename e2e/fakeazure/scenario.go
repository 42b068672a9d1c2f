// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"io"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Scenario is a script: faults of calls, and events that happen without a call.
type Scenario struct {
	Faults []Fault `json:"faults,omitempty"`
	Events []Event `json:"events,omitempty"`
}

// Event is something that happens without a call. Exactly one of its fields besides After is set.
type Event struct {
	// After is the time after the start of the scenario, on the cloud's clock.
	After metav1.Duration `json:"after,omitempty"`

	// Power sets the cluster's state: Running, Stopping, Stopped, Starting.
	Power PowerState `json:"power,omitempty"`
	// Evict removes a machine, spot or not, by its provider ID.
	Evict string `json:"evict,omitempty"`
	// EvictSpot removes the oldest spot machines, as many as its value.
	EvictSpot int `json:"evictSpot,omitempty"`
	// RemovePool deletes a pool, like another client.
	RemovePool string `json:"removePool,omitempty"`
	// AddPool adds a pool of another client.
	AddPool *ForeignPool `json:"addPool,omitempty"`
	// Node changes a registered Node.
	Node *NodeChange `json:"node,omitempty"`
	// Quota sets limits of vCPUs: of a family, cores (the region's) or lowPriorityCores (spot).
	Quota map[string]Quota `json:"quota,omitempty"`
	// ClearFaults removes all faults.
	ClearFaults bool `json:"clearFaults,omitempty"`
	// Upgrade starts an upgrade of a pool.
	Upgrade *Upgrade `json:"upgrade,omitempty"`
	// Retag replaces a pool's tags.
	Retag *Retag `json:"retag,omitempty"`
	// Autoscale turns a pool's cluster autoscaler on or off.
	Autoscale *Autoscale `json:"autoscale,omitempty"`
	// ListLag sets the time by which lists of machines lag. 0: they do not.
	ListLag *metav1.Duration `json:"listLag,omitempty"`
}

// ForeignPool is an agent pool of another client.
type ForeignPool struct {
	Name  string            `json:"name"`
	Size  string            `json:"size"`
	Count int               `json:"count"`
	Tags  map[string]string `json:"tags,omitempty"`
}

// NodeChange is a change of a registered Node.
type NodeChange struct {
	ProviderID string `json:"providerID"`
	// NotReady and NoGPU are the new state.
	NotReady bool `json:"notReady,omitempty"`
	NoGPU    bool `json:"noGPU,omitempty"`
}

func (e Event) validate() error {
	set := 0
	for _, is := range []bool{
		e.Power != "", e.Evict != "", e.EvictSpot != 0, e.RemovePool != "", e.AddPool != nil, e.Node != nil,
		len(e.Quota) > 0, e.ClearFaults,
		e.Upgrade != nil, e.Retag != nil, e.Autoscale != nil, e.ListLag != nil,
	} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf(
			"an event sets %d of power, evict, evictSpot, removePool, addPool, node, quota, clearFaults, upgrade, retag, autoscale, listLag; it must be one",
			set,
		)
	case e.Power != "" && !e.Power.known():
		return fmt.Errorf("power %q is not one of Running, Stopping, Stopped, Starting", e.Power)
	case e.EvictSpot < 0:
		return fmt.Errorf("evictSpot is %d; it must be 1 or more", e.EvictSpot)
	case e.AddPool != nil && !poolName.MatchString(e.AddPool.Name):
		return fmt.Errorf("addPool.name %q does not match %s", e.AddPool.Name, poolName)
	case e.After.Duration < 0:
		return fmt.Errorf("after %s is in the past", e.After.Duration)
	case e.ListLag != nil && e.ListLag.Duration < 0:
		return fmt.Errorf("listLag %s must not be negative", e.ListLag.Duration)
	case e.Upgrade != nil:
		return e.Upgrade.validate()
	case e.Autoscale != nil:
		return e.Autoscale.validate()
	}
	return nil
}

// ParseScenario reads a script in YAML or JSON. An unknown field is an error, because a typo must not result in no
// fault.
func ParseScenario(text []byte) (Scenario, error) {
	var scenario Scenario
	if err := yaml.UnmarshalStrict(text, &scenario); err != nil {
		return Scenario{}, fmt.Errorf("reading the scenario: %w", err)
	}
	for i, f := range scenario.Faults {
		if err := f.validate(); err != nil {
			return Scenario{}, fmt.Errorf("reading the scenario: faults[%d]: %w", i, err)
		}
	}
	for i, e := range scenario.Events {
		if err := e.validate(); err != nil {
			return Scenario{}, fmt.Errorf("reading the scenario: events[%d]: %w", i, err)
		}
	}
	return scenario, nil
}

// ReadScenario is ParseScenario for a file; "-" is the standard input.
func ReadScenario(file string) (Scenario, error) {
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	text, err := read()
	if err != nil {
		return Scenario{}, fmt.Errorf("reading the scenario: %w", err)
	}
	return ParseScenario(text)
}

// Play adds a script's faults and schedules its events.
func (s *Server) Play(scenario Scenario) {
	for _, f := range scenario.Faults {
		s.AddFault(f)
	}
	s.mutex.Lock()
	now := s.now()
	for _, e := range scenario.Events {
		s.events = append(s.events, scheduled{Event: e, at: now.Add(e.After.Duration)})
	}
	s.advance()
	s.mutex.Unlock()
	s.poke()
}

type scheduled struct {
	Event
	at time.Time
}

// happen applies the events that are due. The caller holds the mutex.
func (s *Server) happen(now time.Time) {
	var later []scheduled
	for _, e := range s.events {
		if e.at.After(now) {
			later = append(later, e)
			continue
		}
		s.dirty = true
		s.apply(e.Event)
	}
	s.events = later
}

func (s *Server) apply(e Event) {
	switch {
	case e.Power != "":
		s.power = e.Power
	case e.Evict != "":
		s.evict(e.Evict)
	case e.EvictSpot > 0:
		s.evictSpot(e.EvictSpot)
	case e.RemovePool != "":
		s.removePool(e.RemovePool)
	case e.AddPool != nil:
		s.addPool(*e.AddPool)
	case e.Node != nil:
		s.changeNode(*e.Node)
	case len(e.Quota) > 0:
		s.setQuota(e.Quota)
	case e.ClearFaults:
		s.faults = nil
	case e.Upgrade != nil:
		s.upgrade(*e.Upgrade)
	case e.Retag != nil:
		s.retag(*e.Retag)
	case e.Autoscale != nil:
		s.autoscale(*e.Autoscale)
	case e.ListLag != nil:
		s.lag = e.ListLag.Duration
	}
}

// act applies an event.
func (s *Server) act(e Event) {
	s.mutex.Lock()
	s.advance()
	s.dirty = true
	s.apply(e)
	s.mutex.Unlock()
	s.poke()
}

// SetPower sets the cluster's state. While it is not Running, writes to agent pools are rejected and no machine
// registers; existing Nodes remain as objects.
func (s *Server) SetPower(state PowerState) { s.act(Event{Power: state}) }

// RemovePool deletes a pool, like another client.
func (s *Server) RemovePool(name string) { s.act(Event{RemovePool: name}) }

// Evict removes a machine, like the eviction of a spot machine or a failure of its host.
func (s *Server) Evict(providerID string) { s.act(Event{Evict: providerID}) }

// AddForeignPool adds a pool of another client, with Nodes.
func (s *Server) AddForeignPool(name, size string, count int, tags map[string]string) {
	s.act(Event{AddPool: &ForeignPool{Name: name, Size: size, Count: count, Tags: tags}})
}

// ChangeNode sets whether the Node of a registered machine is NotReady and whether it has GPUs.
func (s *Server) ChangeNode(change NodeChange) { s.act(Event{Node: &change}) }

// SetQuota sets limits of vCPUs by name: of a family, cores (the region's) or lowPriorityCores (spot).
func (s *Server) SetQuota(quota map[string]Quota) { s.act(Event{Quota: quota}) }
