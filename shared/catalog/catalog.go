// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"sort"
	"strings"
)

// CapacityOnDemand and CapacitySpot are Karpenter's names for the types of capacity.
const (
	CapacityOnDemand = "on-demand"
	CapacitySpot     = "spot"
)

// Catalog holds the data. Load creates it.
type Catalog struct {
	models        map[string]Model // by lower-case ID
	names         map[string]string
	sizes         map[string]Size // by lower-case name
	mig           []migTable
	prices        map[string]map[string]float64 // by lower-case size and region
	regions       map[string]bool
	priceDate     string
	engines       []Engine
	quantizations map[string]Quantization
}

// Model returns a model by its ID, the last part of its ID, or an alias. Letter case does not matter. "@revision"
// selects another commit than the catalogue's. The error is an *UnknownModelError or a *ReferenceError.
func (c *Catalog) Model(name string) (Model, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return Model{}, err
	}
	id, found := c.names[strings.ToLower(ref.Name)]
	if !found {
		return Model{}, &UnknownModelError{Name: ref.Name, Suggestions: Nearest(ref.Name, c.modelNames())}
	}
	m := c.models[id].clone()
	if ref.Revision != "" {
		m.Revision = ref.Revision
	}
	return m, nil
}

// Models returns all models, sorted by ID.
func (c *Catalog) Models() []Model {
	out := make([]Model, 0, len(c.models))
	for _, m := range c.models {
		out = append(out, m.clone())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Size returns a GPU size by its name or an alias. Letter case does not matter. The error is an *UnknownSizeError.
func (c *Catalog) Size(name string) (Size, error) {
	if s, found := c.sizes[strings.ToLower(strings.TrimSpace(name))]; found {
		return s, nil
	}
	names := make([]string, 0, len(c.sizes))
	for _, s := range c.sizes {
		for _, alias := range s.Aliases {
			if strings.EqualFold(alias, strings.TrimSpace(name)) {
				return s, nil
			}
		}
		names = append(names, s.Name)
	}
	return Size{}, &UnknownSizeError{Name: name, Suggestions: Nearest(name, names)}
}

// Sizes returns all sizes, sorted by name.
func (c *Catalog) Sizes() []Size {
	out := make([]Size, 0, len(c.sizes))
	for _, s := range c.sizes {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Partition returns the size with each of its GPUs partitioned by a MIG profile: its GPUs are the MIG instances. The
// error is a *PartitionError.
func (c *Catalog) Partition(s Size, profile string) (Size, error) {
	profile = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(profile)), "mig-")
	profiles := c.MIGProfiles(s)
	allowed := make([]string, 0, len(profiles))
	for _, p := range profiles {
		if p.Name == profile {
			return p.of(s), nil
		}
		allowed = append(allowed, p.Name)
	}
	return Size{}, &PartitionError{Size: s.Name, Profile: profile, Allowed: allowed}
}

// MIGProfiles returns the MIG profiles of the GPUs of a size, smallest first. It returns none if the GPUs have no MIG.
func (c *Catalog) MIGProfiles(s Size) []MIGProfile {
	for _, t := range c.mig {
		if t.gpuModel == s.GPUModel && t.memoryGiB == s.MemoryGiB {
			return append([]MIGProfile(nil), t.profiles...)
		}
	}
	return nil
}

// Price is a list price.
type Price struct {
	USDPerHour float64 // of one node
	Date       string  // date of the list price, YYYY-MM-DD
	Ceiling    bool    // the on-demand price, which Azure never exceeds for spot
}

// Price returns the list price of a node, or false if it is unknown. If KnowsRegion is true for the region, that means
// that the size is not offered there.
func (c *Catalog) Price(size, region, capacityType string) (Price, bool) {
	usd, found := c.prices[strings.ToLower(size)][normalizeRegion(region)]
	if !found {
		return Price{}, false
	}
	return Price{USDPerHour: usd, Date: c.priceDate, Ceiling: capacityType == CapacitySpot}, true
}

// LowestPrice returns the list price in the cheapest region. Sizes are sorted by it if the region is unknown.
func (c *Catalog) LowestPrice(size string) (Price, bool) {
	lowest, found := 0.0, false
	for _, usd := range c.prices[strings.ToLower(size)] {
		if !found || usd < lowest {
			lowest, found = usd, true
		}
	}
	return Price{USDPerHour: lowest, Date: c.priceDate}, found
}

// KnowsRegion returns whether any size has a price in a region.
func (c *Catalog) KnowsRegion(region string) bool { return c.regions[normalizeRegion(region)] }

// PriceDate returns the date of all prices, YYYY-MM-DD.
func (c *Catalog) PriceDate() string { return c.priceDate }

// Engine returns the newest engine that supports a GPU. The error is an *UnsupportedCapabilityError.
func (c *Catalog) Engine(cc ComputeCapability) (Engine, error) {
	var lowest ComputeCapability
	for _, e := range c.engines {
		if e.Serves(cc) {
			return e.clone(), nil
		}
		if lowest.IsZero() || e.MinCapability.Less(lowest) {
			lowest = e.MinCapability
		}
	}
	return Engine{}, &UnsupportedCapabilityError{Capability: cc, Minimum: lowest}
}

// Engines returns the engines, newest first.
func (c *Catalog) Engines() []Engine {
	out := make([]Engine, 0, len(c.engines))
	for _, e := range c.engines {
		out = append(out, e.clone())
	}
	return out
}

// Quantization returns a method by its name in the engine.
func (c *Catalog) Quantization(method string) (Quantization, bool) {
	q, found := c.quantizations[strings.ToLower(method)]
	return q, found
}

// InFlightQuantizations returns the methods that can be applied to 16-bit weights, sorted by name.
func (c *Catalog) InFlightQuantizations() []string {
	var out []string
	for _, q := range c.quantizations {
		if q.InFlight {
			out = append(out, q.Method)
		}
	}
	sort.Strings(out)
	return out
}

func (c *Catalog) modelNames() []string {
	out := make([]string, 0, len(c.names))
	for name, id := range c.names {
		if name == id {
			name = c.models[id].ID
		}
		out = append(out, name)
	}
	return out
}

// normalizeRegion returns the same region for "East US" and "eastus", as Azure does.
func normalizeRegion(region string) string {
	return strings.ReplaceAll(strings.ToLower(region), " ", "")
}
