// SPDX-License-Identifier: Apache-2.0

package metric

import "github.com/prometheus/client_golang/prometheus"

const (
	// Prefix is the prefix of every metric. Collectors are declared without it.
	Prefix = "kaito_provisioner_"
	// deprecatedPrefix is the former prefix. Remove it in the release after the one that introduces Prefix.
	deprecatedPrefix = "gpu_provisioner_"
)

// Registerer returns a Registerer that adds each collector to r twice: with Prefix and with the deprecated prefix.
func Registerer(r prometheus.Registerer) prometheus.Registerer {
	return registerers{
		prometheus.WrapRegistererWithPrefix(Prefix, r), prometheus.WrapRegistererWithPrefix(deprecatedPrefix, r),
	}
}

type registerers []prometheus.Registerer

// Register adds the collector to all registerers, or returns the first error.
func (r registerers) Register(c prometheus.Collector) error {
	for _, each := range r {
		if err := each.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// MustRegister adds the collectors to all registerers, and panics if one fails.
func (r registerers) MustRegister(collectors ...prometheus.Collector) {
	for _, each := range r {
		each.MustRegister(collectors...)
	}
}

// Unregister removes the collector from all registerers. It returns false if one of them did not have it.
func (r registerers) Unregister(c prometheus.Collector) bool {
	removed := true
	for _, each := range r {
		removed = each.Unregister(c) && removed
	}
	return removed
}
