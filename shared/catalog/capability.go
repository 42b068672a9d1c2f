// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"strconv"
	"strings"
)

// ComputeCapability is the version of a GPU's instruction set by NVIDIA, for example 7.0 for a V100.
type ComputeCapability struct {
	Major, Minor int
}

// ParseComputeCapability parses a text such as "8.0". "8" and "8.0+PTX" are errors.
func ParseComputeCapability(s string) (ComputeCapability, error) {
	major, minor, found := strings.Cut(s, ".")
	if found {
		a, errA := strconv.Atoi(major)
		b, errB := strconv.Atoi(minor)
		if errA == nil && errB == nil && a > 0 && b >= 0 && b < 10 {
			return ComputeCapability{Major: a, Minor: b}, nil
		}
	}
	return ComputeCapability{}, fmt.Errorf("invalid compute capability %q: use MAJOR.MINOR, for example 8.0", s)
}

// Less returns whether c is lower than other.
func (c ComputeCapability) Less(o ComputeCapability) bool {
	return c.Major < o.Major || c.Major == o.Major && c.Minor < o.Minor
}

// IsZero returns whether the capability is unknown.
func (c ComputeCapability) IsZero() bool { return c == ComputeCapability{} }

func (c ComputeCapability) String() string { return fmt.Sprintf("%d.%d", c.Major, c.Minor) }
