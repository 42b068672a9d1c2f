// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/controller"
)

// planner is the real one, over the embedded catalogue.
func planner(t *testing.T) controller.Planner {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	return controller.CatalogPlanner{Catalog: c}
}
