// SPDX-License-Identifier: Apache-2.0

package suite_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/audit"
)

// quietPeriod is what the users are promised: a minute in which nothing is written.
const quietPeriod = time.Minute

func TestAReadyWorkspaceCostsNoWrites(t *testing.T) {
	stacktest.OwnCluster(t, "it reads the API server's audit log")
	stacktest.Parallel(t)
	s := stacktest.Start(t, stack.Options{})
	workspace := stacktest.QuickStart(t, s)
	stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)

	log := audit.Open(s.Cluster.AuditLog())
	// What was under way when the Workspace became Ready may end: a Job's last status, an event.
	quiet(t.Context(), 5*time.Second)

	t.Run("in a quiet minute", func(t *testing.T) {
		mark, err := log.Mark()
		require.NoError(t, err)
		quiet(t.Context(), quietPeriod)
		assertNoWrites(t, log, mark)
	})
	t.Run("after it was touched", func(t *testing.T) {
		mark, err := log.Mark()
		require.NoError(t, err)
		touched := workspace.DeepCopy()
		touched.Annotations = map[string]string{"touched": "yes"}
		require.NoError(t, s.Client.Patch(t.Context(), touched, client.MergeFrom(workspace)))
		quiet(t.Context(), 5*time.Second)
		assertNoWrites(t, log, mark)
	})
	for _, o := range stack.Operators {
		t.Run("after a restart of "+string(o), func(t *testing.T) {
			mark, err := log.Mark()
			require.NoError(t, err)
			require.NoError(t, s.StopOperator(o))
			require.NoError(t, s.Run(t.Context(), o))
			// Long enough to take the lease and to look at every object.
			quiet(t.Context(), 20*time.Second)
			assertNoWrites(t, log, mark)
		})
	}
}

func assertNoWrites(t *testing.T, log *audit.Log, mark audit.Mark) {
	t.Helper()
	var users []string
	for _, o := range stack.Operators {
		users = append(users, o.User())
	}
	writes, err := log.Writes(mark, audit.User(users...))
	require.NoError(t, err)
	assert.Empty(t, writes, "the operators wrote:\n%s", audit.Table(writes))
}
