// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a goroutine outlives the tests. The goroutines of Karpenter's caches end when the caches are
// garbage collected.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/patrickmn/go-cache.(*janitor).Run"))
}
