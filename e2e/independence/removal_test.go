// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// TestAnOperatorIsRemovedWhileItWorksAndPutBack takes each operator away in the middle of its work, its namespace and
// everything in it, while the other operators continue, and installs it again: nothing is lost, and nothing is done
// twice.
func TestAnOperatorIsRemovedWhileItWorksAndPutBack(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	var s *stack.Stack
	s = startStack(t, stack.Options{Play: func(ctx context.Context, pod *corev1.Pod) (cluster.Outcome, error) {
		select {
		case <-goOn:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return s.TrainAndPush(ctx, pod)
	}})
	workspace := stacktest.QuickStart(t, s)
	key := metav1.ObjectMeta{Name: workspace.Name, Namespace: workspace.Namespace}

	// The gpu-provisioner goes while Azure makes its pool.
	require.EventuallyWithT(
		t, func(c *assert.CollectT) { assert.NotEmpty(c, s.Azure.State().Pools) }, stacktest.Journey, eventually.StoryTick,
	)
	require.NoError(t, s.Uninstall(t.Context(), stack.GPUProvisioner))
	machine := onlyMachine(t, s)
	putBack(t, s, stack.GPUProvisioner)
	stacktest.EventuallyWorkspace(t, s, workspace.Name, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		assert.True(c, conditions.IsTrue(w, kaitov1alpha1.ConditionResourceReady))
	})
	assert.Equal(t, machine.UID, onlyMachine(t, s).UID, "no second node is asked for")
	if pools := s.Azure.State().Pools; assert.Len(t, pools, 1, "no second pool is made") {
		assert.Len(t, pools[0].Machines, 1, "no second machine is bought")
	}

	// The tuning-operator is removed while its Job runs. The Job ends without it, and then the workspace-operator is
	// removed, too.
	tuning := &tuningv1alpha1.TuningJob{ObjectMeta: key}
	eventuallyGet(t, s, tuning, func(c *assert.CollectT) {
		assert.True(c, meta.IsStatusConditionTrue(tuning.Status.Conditions, tuningv1alpha1.ConditionRunning))
	})
	require.NoError(t, s.Uninstall(t.Context(), stack.TuningOperator))
	close(goOn)
	job := &batchv1.Job{ObjectMeta: key}
	eventuallyGet(t, s, job, func(c *assert.CollectT) { assert.EqualValues(c, 1, job.Status.Succeeded) })
	require.NoError(t, s.Uninstall(t.Context(), stack.WorkspaceOperator))
	// The pod's termination message is deleted with it; the registry still has the adapter.
	require.NoError(
		t,
		s.Client.DeleteAllOf(
			t.Context(), &corev1.Pod{}, client.InNamespace(key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: key.Name},
		),
	)
	putBack(t, s, stack.TuningOperator)
	again := &tuningv1alpha1.TuningJob{ObjectMeta: key}
	eventuallyGet(t, s, again, func(c *assert.CollectT) {
		assert.True(
			c, meta.IsStatusConditionTrue(again.Status.Conditions, tuningv1alpha1.ConditionSucceeded),
			"%+v", again.Status.Conditions,
		)
	})
	assert.Equal(t, tuning.UID, again.UID)
	assert.Contains(t, again.Status.Output.Image, s.RegistryHost())
	assert.Contains(t, again.Status.Output.Image, "@sha256:")
	assert.NotEmpty(t, again.Status.Output.BaseRevision)
	var jobs []string
	for _, j := range objects(t, s, "batch/v1", "Job") {
		jobs = append(jobs, j.GetName())
	}
	assert.Len(t, jobs, 2, "nothing is tuned twice")
	assert.Contains(t, jobs, key.Name)
	assert.Contains(t, strings.Join(jobs, " "), "-result-", "the Job that asks the registry")
	uid := job.UID
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(job), job))
	assert.Equal(t, uid, job.UID)
	err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(workspace), &appsv1.Deployment{})
	assert.True(t, apierrors.IsNotFound(err), "no operator runs that would serve: %v", err)
	putBack(t, s, stack.WorkspaceOperator)
	stacktest.EventuallyWorkspace(t, s, workspace.Name, stacktest.Ready)

	// The gpu-provisioner goes again, and meanwhile the Workspace: it waits for its node.
	require.NoError(t, s.Uninstall(t.Context(), stack.GPUProvisioner))
	stacktest.Delete(t, s, workspace)
	eventuallyGet(t, s, machine, func(c *assert.CollectT) { assert.NotNil(c, machine.DeletionTimestamp) })
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(workspace), workspace))
	putBack(t, s, stack.GPUProvisioner)
	stacktest.NothingLeft(t, s)
}

func putBack(t *testing.T, s *stack.Stack, o stack.Operator) {
	t.Helper()
	require.NoError(t, s.Install(t.Context(), o))
	require.NoError(t, s.Run(t.Context(), o))
}

// onlyMachine is the one Machine that there is.
func onlyMachine(t *testing.T, s *stack.Stack) *karpenterv1alpha5.Machine {
	t.Helper()
	machines := &karpenterv1alpha5.MachineList{}
	require.NoError(t, s.Client.List(t.Context(), machines))
	require.Len(t, machines.Items, 1)
	return &machines.Items[0]
}
