// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/plan"
)

// Prices says what a node counts for, from the catalogue.
type Prices struct {
	Catalog *catalog.Catalog
	// Region whose list prices count; empty: the lowest of all regions.
	Region string
}

// Bill returns the GPUs of a whole node, even if only a part of it is used, and the price that plans have. A size that
// the catalogue does not have counts with the GPUs that were asked for.
func (p Prices) Bill(choice plan.Choice, gpus int64) Bill {
	bill := Bill{GPUs: gpus}
	if size, err := p.Catalog.Size(choice.InstanceType); err == nil && size.GPUs > 0 {
		bill.GPUs = int64(size.GPUs)
	}
	if price, known := plan.Price(p.Catalog, p.Region, choice.InstanceType, string(choice.CapacityType)); known {
		bill.Cost, bill.Priced = Dollars(price.USDPerHour), true
	}
	return bill
}
