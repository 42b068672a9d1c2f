// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/shared/catalog"
)

// sizes converts the VM sizes of the project's catalogue.
type sizes struct{ catalog *catalog.Catalog }

// Size returns the size of that name, or false if the catalogue does not have it.
func (s sizes) Size(name string) (offering.Size, bool) {
	size, err := s.catalog.Size(name)
	if err != nil {
		return offering.Size{}, false
	}
	return convert(size), true
}

// Sizes returns all sizes.
func (s sizes) Sizes() []offering.Size {
	var out []offering.Size
	for _, size := range s.catalog.Sizes() {
		out = append(out, convert(size))
	}
	return out
}

// Price returns the list price in US dollars an hour, or 0 if the catalogue does not have it.
func (s sizes) Price(size, region, capacityType string) float64 {
	price, ok := s.catalog.Price(size, region, capacityType)
	if !ok {
		return 0
	}
	return price.USDPerHour
}

func convert(s catalog.Size) offering.Size {
	return offering.Size{
		Name: s.Name, GPUs: int64(s.GPUs), VCPUs: int64(s.VCPUs), MemoryGiB: int64(s.RAMGiB), Family: s.QuotaFamily,
	}
}
