// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/workspace"
)

// planner is the real one, over the embedded catalogue.
func planner(t *testing.T) workspace.Planner {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	return workspace.CatalogPlanner{Catalog: c}
}
