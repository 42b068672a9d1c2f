// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"strconv"
	"strings"
)

// ComputeCapability is NVIDIA's version of a GPU's instruction set, for example 7.0 for a V100.
type ComputeCapability struct {
	Major, Minor int
}

// ParseComputeCapability reads "8.0". It is exact: neither "8" nor "8.0+PTX" is one.
func ParseComputeCapability(s string) (ComputeCapability, error) {
	major, minor, found := strings.Cut(s, ".")
	if found {
		a, errA := strconv.Atoi(major)
		b, errB := strconv.Atoi(minor)
		if errA == nil && errB == nil && a > 0 && b >= 0 && b < 10 {
			return ComputeCapability{Major: a, Minor: b}, nil
		}
	}
	return ComputeCapability{}, fmt.Errorf("compute capability %q: want MAJOR.MINOR, for example 8.0", s)
}

// Less orders capabilities.
func (c ComputeCapability) Less(o ComputeCapability) bool {
	return c.Major < o.Major || c.Major == o.Major && c.Minor < o.Minor
}

// IsZero is true where the capability is not known.
func (c ComputeCapability) IsZero() bool { return c == ComputeCapability{} }

func (c ComputeCapability) String() string { return fmt.Sprintf("%d.%d", c.Major, c.Minor) }
