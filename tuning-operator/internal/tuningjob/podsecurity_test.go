// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/podsecurity"
)

func TestTuningPodsPassTheRestrictedStandard(t *testing.T) {
	refusals, err := podsecurity.Refusals(t.Context(), shared.client, "../job/testdata")
	require.NoError(t, err)
	require.Greater(t, len(refusals), 3)
	for file, refusal := range refusals {
		assert.Empty(t, refusal, file)
	}
}
