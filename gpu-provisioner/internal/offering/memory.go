// SPDX-License-Identifier: Apache-2.0

package offering

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Values of the label karpenter.sh/capacity-type.
const (
	OnDemand = "on-demand"
	Spot     = "spot"
)

// Offering is what a claim requests from Azure.
type Offering struct {
	Size string
	// Family is the size's quota family, or "" if it is unknown.
	Family string
	// Zone is a zone's number, or "" for a regional placement.
	Zone         string
	CapacityType string
}

// Entry is an unavailable offering. Size, Family, Zone and CapacityType are those of the failed offering; those that
// the scope does not limit are empty.
type Entry struct {
	Scope        azure.Scope `json:"scope"`
	Size         string      `json:"size,omitempty"`
	Family       string      `json:"family,omitempty"`
	Zone         string      `json:"zone,omitempty"`
	CapacityType string      `json:"capacityType"`
	Reason       string      `json:"reason"`
	Message      string      `json:"message"`
	Remedy       string      `json:"remedy,omitempty"`
	Since        time.Time   `json:"since"`
	Until        time.Time   `json:"until"`
}

// Memory knows the offerings that are unavailable.
type Memory struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	entries map[string]Entry
}

// NewMemory returns an empty memory.
func NewMemory(c clock.PassiveClock) *Memory {
	return &Memory{clock: c, entries: map[string]Entry{}}
}

// Restore adds the entries of an earlier process that have not expired.
func (m *Memory) Restore(entries map[string]Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if m.clock.Now().Before(e.Until) {
			m.entries[e.key()] = e
		}
	}
}

// Fail adds an entry for an error of class capacity, and ignores other classes. It returns whether it added one.
func (m *Memory) Fail(o Offering, err *azure.Error) (Entry, bool) {
	d := err.Remember(o.CapacityType == Spot)
	if d == 0 {
		return Entry{}, false
	}
	e := Entry{
		Scope:        err.Scope,
		CapacityType: o.CapacityType,
		Reason:       err.Reason,
		Message:      err.Error(),
		Remedy:       err.Remedy,
		Since:        m.clock.Now(),
		Until:        m.clock.Now().Add(d),
	}
	switch err.Scope {
	case azure.ScopeSpot, azure.ScopeRegion:
	case azure.ScopeFamily:
		e.Family = o.Family
		if e.Family == "" {
			e.Scope, e.Size = azure.ScopeSize, o.Size
		}
	case azure.ScopeSize:
		e.Size = o.Size
	default:
		e.Scope, e.Size, e.Zone = azure.ScopeOffering, o.Size, o.Zone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[e.key()] = e
	return e, true
}

// Unavailable returns why the offering is unavailable now, or nil.
func (m *Memory) Unavailable(o Offering) *azure.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range []string{
		Entry{Scope: azure.ScopeOffering, Size: o.Size, Zone: o.Zone, CapacityType: o.CapacityType}.key(),
		Entry{Scope: azure.ScopeSize, Size: o.Size, CapacityType: o.CapacityType}.key(),
		Entry{Scope: azure.ScopeFamily, Family: o.Family, CapacityType: o.CapacityType}.key(),
		Entry{Scope: azure.ScopeRegion, CapacityType: o.CapacityType}.key(),
		Entry{Scope: azure.ScopeSpot, CapacityType: o.CapacityType}.key(),
	} {
		if e, ok := m.entries[key]; ok && m.clock.Now().Before(e.Until) {
			return &azure.Error{
				Reason:      e.Reason,
				Class:       azure.ClassCapacity,
				Scope:       e.Scope,
				Message:     e.Message,
				Remedy:      e.Remedy,
				RememberFor: e.Until.Sub(m.clock.Now()),
			}
		}
	}
	return nil
}

// Entries returns the current entries, sorted by key.
func (m *Memory) Entries() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Entry
	for key, e := range m.entries {
		if !m.clock.Now().Before(e.Until) {
			delete(m.entries, key)
			continue
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.key(), b.key()) })
	return out
}

// NextExpiry returns the time at which the next entry expires, or zero.
func (m *Memory) NextExpiry() time.Time {
	var next time.Time
	for _, e := range m.Entries() {
		if next.IsZero() || e.Until.Before(next) {
			next = e.Until
		}
	}
	return next
}

// key returns a valid key for a ConfigMap's data.
func (e Entry) key() string {
	part := func(s, all string) string {
		s = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
				return r
			}
			return -1
		}, s)
		return cmp.Or(s, all)
	}
	switch e.Scope {
	case azure.ScopeRegion, azure.ScopeSpot:
		return strings.Join([]string{string(e.Scope), part(e.CapacityType, "any")}, ".")
	case azure.ScopeFamily:
		return strings.Join([]string{"family", part(e.Family, "any"), part(e.CapacityType, "any")}, ".")
	case azure.ScopeSize:
		return strings.Join([]string{"size", part(e.Size, "any"), part(e.CapacityType, "any")}, ".")
	default:
		return strings.Join(
			[]string{"offering", part(e.Size, "any"), part(e.Zone, "regional"), part(e.CapacityType, "any")}, ".",
		)
	}
}

// Key returns the entry's key in the ConfigMap.
func (e Entry) Key() string { return e.key() }
