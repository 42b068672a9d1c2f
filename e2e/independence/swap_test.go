// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
)

func TestHandmadeProvisionerReplacesTheGPUProvisioner(t *testing.T) {
	t.Parallel()
	s := startStack(
		t,
		stack.Options{Operators: []stack.Operator{stack.WorkspaceOperator, stack.TuningOperator}, WithoutKarpenterCRDs: true},
	)
	require.NoError(t, s.InstallCRDs(t.Context(), stack.GPUProvisioner))
	handMade := &provisioner{soldOut: "Standard_NC24ads_A100_v4"}
	runHandMade(t, s, handMade.setup)

	t.Run("the quick start's Workspace", func(t *testing.T) {
		workspace := stacktest.QuickStart(t, s)
		got := stacktest.EventuallyWorkspace(t, s, workspace.Name, stacktest.Ready)
		machines := &karpenterv1alpha5.MachineList{}
		require.NoError(t, s.Client.List(t.Context(), machines))
		require.Len(t, machines.Items, 1)
		assert.Equal(t, []string{machines.Items[0].Name}, got.Status.WorkerNodes, "the node is the one made by hand")
		stacktest.Delete(t, s, workspace)
		stacktest.NothingLeft(t, s)
	})
	t.Run("its reasons are carried up, and the next size is tried", func(t *testing.T) {
		workspace := inference("sold-out")
		workspace.Resource.InstanceTypes = []string{handMade.soldOut, "Standard_NC48ads_A100_v4"}
		require.NoError(t, s.Client.Create(t.Context(), workspace))
		got := stacktest.EventuallyWorkspace(t, s, workspace.Name, stacktest.Ready)
		require.Len(t, got.Status.Attempts, 1)
		assert.Equal(t, "SoldOut", got.Status.Attempts[0].Reason)
		assert.Equal(t, handMade.soldOut, got.Status.Attempts[0].InstanceType)
		assert.Contains(t, got.Status.Attempts[0].Message, "use another size")
		assert.Equal(t, "Standard_NC48ads_A100_v4", got.Status.Plan.InstanceType)
		stacktest.Delete(t, s, workspace)
		stacktest.NothingLeft(t, s)
	})
}

func TestHandmadeTunerReplacesTheTuningOperator(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{stack.WorkspaceOperator, stack.GPUProvisioner}})
	require.NoError(t, s.InstallCRDs(t.Context(), stack.TuningOperator))
	runHandMade(t, s, (&tuner{}).setup)

	t.Run("the quick start's Workspace", func(t *testing.T) {
		workspace := stacktest.QuickStart(t, s)
		stacktest.EventuallyWorkspace(t, s, workspace.Name, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
			assert.True(c, conditions.IsTrue(w, kaitov1alpha1.ConditionJobStarted))
			if assert.NotNil(c, w.Status.Tuning) {
				assert.Equal(c, "45% (45/100)", w.Status.Tuning.Progress, "the progress is carried up")
			}
		})
		end(t, s, "well")
		stacktest.EventuallyWorkspace(t, s, workspace.Name, stacktest.Ready)
		assert.Contains(
			t, sources(t, s), workspace.Tuning.Output.Image+"@"+handMadeDigest,
			"what the tuner has pushed is served, by its digest",
		)
		stacktest.Delete(t, s, workspace)
		stacktest.NothingLeft(t, s)
	})
	t.Run("its reasons are carried up unchanged", func(t *testing.T) {
		workspace := stacktest.QuickStart(t, s)
		stacktest.EventuallyWorkspace(t, s, workspace.Name, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
			assert.True(c, conditions.IsTrue(w, kaitov1alpha1.ConditionJobStarted))
		})
		end(t, s, "OutOfChalk")
		stacktest.EventuallyWorkspace(t, s, workspace.Name, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
			stalled := conditions.Get(w, conditions.Stalled)
			if assert.NotNil(c, stalled) {
				assert.Equal(c, metav1.ConditionTrue, stalled.Status)
				assert.Equal(c, "OutOfChalk", stalled.Reason)
				assert.Equal(c, "the test's tuner was configured to fail", stalled.Message)
			}
		})
		stacktest.Delete(t, s, workspace)
		stacktest.NothingLeft(t, s)
	})
}

// end tells the tuner made by hand how the quick start's TuningJob ends.
func end(t *testing.T, s *stack.Stack, how string) {
	t.Helper()
	job := &tuningv1alpha1.TuningJob{
		ObjectMeta: metav1.ObjectMeta{Name: stacktest.QuickStartName, Namespace: stacktest.Namespace},
	}
	patch := client.RawPatch(
		"application/merge-patch+json",
		[]byte(`{"metadata":{"annotations":{"`+annotationGo+`":"`+how+`"}}}`),
	)
	require.NoError(t, s.Client.Patch(t.Context(), job, patch))
}

// sources are what the quick start's serving pods mount as images and what they fetch, by the values of the flags that
// say so.
func sources(t *testing.T, s *stack.Stack) []string {
	t.Helper()
	deployment := &appsv1.Deployment{}
	require.NoError(
		t,
		s.Client.Get(
			t.Context(), client.ObjectKey{Namespace: stacktest.Namespace, Name: stacktest.QuickStartName}, deployment,
		),
	)
	var out []string
	for _, volume := range deployment.Spec.Template.Spec.Volumes {
		if volume.Image != nil {
			out = append(out, volume.Image.Reference)
		}
	}
	for _, container := range deployment.Spec.Template.Spec.InitContainers {
		for _, arg := range container.Args {
			_, value, _ := strings.Cut(arg, "=")
			out = append(out, value)
		}
	}
	return out
}
