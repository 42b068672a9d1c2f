// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// FuzzPoolName checks that the ordinal is read back from a name, and that other names are rejected.
func FuzzPoolName(f *testing.F) {
	f.Add("gijshj2ng0", "ijshj2ng", 0)
	f.Add("gijshj2ng999", "ijshj2ng", 999)
	f.Add("gijshj2ng01", "ijshj2ng", 1)
	f.Add("nodepool1", "", -1)
	f.Add("g-1", "", 1)
	f.Add("g+1", "", 1)
	f.Fuzz(func(t *testing.T, name, key string, n int) {
		if got, ok := ordinal(name, key); ok {
			assert.Equal(t, name, Name(key, got), "only results of Name have an ordinal")
			assert.GreaterOrEqual(t, got, 0)
		}
		got, ok := ordinal(Name(key, n), key)
		assert.Equal(t, n >= 0, ok)
		if ok {
			assert.Equal(t, n, got)
		}
	})
}
