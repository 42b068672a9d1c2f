// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"strconv"
	"strings"
)

// hashLength leaves three digits for the ordinal: AKS limits the name of a Linux pool to twelve characters.
const hashLength = 8

// Name returns the name of a pool: g, the key's hash and the ordinal. It matches ^[a-z][a-z0-9]{0,11}$.
func Name(key string, ordinal int) string {
	return "g" + key + strconv.Itoa(ordinal)
}

// ordinal returns the ordinal of a name of that key, or false.
func ordinal(name, key string) (int, bool) {
	rest, ok := strings.CutPrefix(name, "g"+key)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == rest
}
