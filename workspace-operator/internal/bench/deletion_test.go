// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/eventually"
)

// deletion is what the deletion of a Workspace cost.
type deletion struct {
	requests float64       // a Workspace
	cpu      time.Duration // a Workspace
	server   time.Duration // of the API server's CPU, a Workspace
}

// deleteAll deletes all Workspaces at once, and waits until the operator has let them go.
func (b *bench) deleteAll(t *testing.T, role, namespace string, s *subject) deletion {
	t.Helper()
	mark, err := b.audit.Mark()
	require.NoError(t, err)
	before, serverBefore := s.cpu(t), b.serverCPU(t)
	require.NoError(t, b.client.DeleteAllOf(t.Context(), &kaitov1alpha1.Workspace{}, client.InNamespace(namespace)))
	require.Eventually(t, func() bool {
		left := &kaitov1alpha1.WorkspaceList{}
		return b.client.List(t.Context(), left, client.InNamespace(namespace), client.Limit(1)) == nil && len(left.Items) == 0
	}, eventually.Long+time.Duration(*number)*100*time.Millisecond, eventually.Tick)
	b.settle(t, role, s)
	// Lists count, too: one of all claims for each Workspace would cost more than all the rest.
	requests, err := b.audit.Requests(mark, by(role), audit.Not(audit.Verb("watch")), audit.Not(audit.Resource("leases")))
	require.NoError(t, err)
	n := *number + 1 // and the one that warmed up
	out := deletion{
		requests: float64(len(requests)) / float64(n),
		cpu:      (s.cpu(t) - before) / time.Duration(n),
		server:   (b.serverCPU(t) - serverBefore) / time.Duration(n),
	}
	if !assert.LessOrEqual(t, out.requests, mostRequestsOfADeletion, "requests a deletion") {
		t.Log(audit.Table(requests))
	}
	return out
}

// mostRequestsOfADeletion: the Deployment and the claim are deleted, the claim is looked for, and the finalizer is
// removed. The rest is for a pass that a busy machine repeats.
const mostRequestsOfADeletion = 4.1

func (d deletion) String() string {
	return fmt.Sprintf("%.2f requests, %.1f ms of CPU, %.1f ms of the API server's CPU",
		d.requests, float64(d.cpu.Microseconds())/1000, float64(d.server.Microseconds())/1000)
}
