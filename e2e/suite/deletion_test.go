// SPDX-License-Identifier: Apache-2.0

package suite_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

// exists waits until there is an object of the list's kind in the user's namespace, or among cluster-scoped ones.
func exists(t *testing.T, s *stack.Stack, list client.ObjectList, items func() int) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, s.Health())
		require.NoError(c, s.Client.List(t.Context(), list, client.InNamespace(namespaceOf(list))))
		assert.NotZero(c, items())
	}, stacktest.Journey, eventually.StoryTick)
}

func namespaceOf(list client.ObjectList) string {
	switch list.(type) {
	case *karpenterv1alpha5.MachineList, *corev1.NodeList:
		return ""
	}
	return stacktest.Namespace
}

func TestDeletingAWorkspaceAtAnyStageLeavesNothing(t *testing.T) {
	stacktest.Parallel(t)
	// Without a claim, a machine is otherwise kept for a minute.
	s := stacktest.Start(t, stack.Options{Args: map[stack.Operator][]string{stack.GPUProvisioner: {"--surplus-grace=5s"}}})
	for _, stage := range []struct {
		name  string
		reach func(t *testing.T)
	}{
		{"at once", func(*testing.T) {}},
		{"when its Machine exists", func(t *testing.T) {
			list := &karpenterv1alpha5.MachineList{}
			exists(t, s, list, func() int { return len(list.Items) })
		}},
		{"when its agent pool is being made", func(t *testing.T) {
			require.EventuallyWithT(t, func(c *assert.CollectT) { assert.NotEmpty(c, s.Azure.State().Pools) }, stacktest.Journey, eventually.StoryTick)
		}},
		{"when its Node exists", func(t *testing.T) {
			list := &corev1.NodeList{}
			exists(t, s, list, func() int { return len(list.Items) })
		}},
		{"when its TuningJob exists", func(t *testing.T) {
			list := &tuningv1alpha1.TuningJobList{}
			exists(t, s, list, func() int { return len(list.Items) })
		}},
		{"when its Job runs", func(t *testing.T) {
			list := &batchv1.JobList{}
			exists(t, s, list, func() int { return len(list.Items) })
		}},
		{"when its Deployment exists", func(t *testing.T) {
			list := &appsv1.DeploymentList{}
			exists(t, s, list, func() int { return len(list.Items) })
		}},
		{"when it is Ready", func(t *testing.T) { stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready) }},
	} {
		t.Run(stage.name, func(t *testing.T) {
			workspace := stacktest.QuickStart(t, s)
			stage.reach(t)
			require.NoError(t, s.Client.Delete(t.Context(), &kaitov1alpha1.Workspace{ObjectMeta: workspace.ObjectMeta}))
			stacktest.NothingLeft(t, s)
		})
	}
}
