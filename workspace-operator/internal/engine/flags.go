// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"slices"
)

// Flags are an engine's flags without dashes, each with its values. One without values is a switch.
type Flags map[string][]string

// Set gives a flag one value. The empty value leaves the flag unset.
func (f Flags) Set(flag, value string) {
	if value != "" {
		f[flag] = []string{value}
	}
}

// Words returns the flags as a command line has them, sorted, so that the same flags give the same text. A single value
// is part of its flag's word; several, and all values of lists, follow it.
func (f Flags) Words(lists ...string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if values := f[name]; len(values) == 1 && !slices.Contains(lists, name) {
			out = append(out, "--"+name+"="+values[0])
		} else {
			out = append(append(out, "--"+name), values...)
		}
	}
	return out
}
