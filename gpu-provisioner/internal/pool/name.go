// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"strconv"
	"strings"
)

// hashLength leaves three digits for the ordinal within AKS's limit of twelve characters for a Linux pool.
const hashLength = 8

// Name is `g` + the key's hash + the ordinal: within ^[a-z][a-z0-9]{0,11}$, the same for the same key.
func Name(key string, ordinal int) string {
	return "g" + key + strconv.Itoa(ordinal)
}

// ordinal reads the ordinal back; false for a name that is not of that key.
func ordinal(name, key string) (int, bool) {
	rest, ok := strings.CutPrefix(name, "g"+key)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == rest
}
