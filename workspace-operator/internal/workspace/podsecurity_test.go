// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/podsecurity"
)

// What README.md lists as the exception is all that the strictest standard has against serving pods.
func TestServingPodsAreRestrictedExceptTheEngineUser(t *testing.T) {
	refusals, err := podsecurity.Refusals(t.Context(), shared.client, "../serving/testdata")
	require.NoError(t, err)
	require.Greater(t, len(refusals), 5)
	for file, refusal := range refusals {
		if file == "template.yaml" {
			continue // the user's own pods
		}
		_, violations, found := strings.Cut(refusal, `violates PodSecurity "restricted:latest": `)
		if assert.True(t, found, "%s: %s", file, refusal) {
			assert.Equal(
				t,
				`runAsNonRoot != true (pod or container "engine" must set securityContext.runAsNonRoot=true)`,
				violations,
				file,
			)
		}
	}
}
