// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

func TestADeletedWorkspaceLeavesNothingWhateverItsStage(t *testing.T) {
	start(t, options())
	for _, test := range []struct {
		name  string
		reach func(t *testing.T, w *kaitov1alpha1.Workspace)
	}{
		{"as soon as it is created", func(*testing.T, *kaitov1alpha1.Workspace) {}},
		{"while its node is awaited", func(t *testing.T, w *kaitov1alpha1.Workspace) { eventuallyMachines(t, w, 1) }},
		{"while it is tuned", func(t *testing.T, w *kaitov1alpha1.Workspace) {
			launch(t, &eventuallyMachines(t, w, 1)[0], "1")
			eventuallyJob(t, w)
		}},
		{"while its engine starts", func(t *testing.T, w *kaitov1alpha1.Workspace) {
			launch(t, &eventuallyMachines(t, w, 1)[0], "1")
			succeed(t, eventuallyJob(t, w))
			require.Eventually(t, func() bool {
				return shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &appsv1.Deployment{}) == nil
			}, eventually.Long, eventually.Tick)
		}},
		{"while it serves", func(t *testing.T, w *kaitov1alpha1.Workspace) {
			launch(t, &eventuallyMachines(t, w, 1)[0], "1")
			succeed(t, eventuallyJob(t, w))
			eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
				hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := newNamespace(t)
			w := seed(namespace)
			create(t, pushSecret(namespace), w)
			test.reach(t, w)
			require.NoError(t, shared.client.Delete(t.Context(), w))
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				key := client.ObjectKeyFromObject(w)
				for _, obj := range []client.Object{&kaitov1alpha1.Workspace{}, &tuningv1alpha1.TuningJob{}, &appsv1.Deployment{}, &corev1.Service{}} {
					assert.True(c, apierrors.IsNotFound(shared.client.Get(t.Context(), key, obj)), "%T", obj)
				}
				assert.Empty(c, machinesOf(c, w))
			}, eventually.Long, eventually.Tick)
		})
	}
}

func TestTheWorkspaceStaysUntilItsNodesAreReleased(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	machine := eventuallyMachines(t, w, 1)[0]
	controllerutil.AddFinalizer(&machine, karpenterv1alpha5.TerminationFinalizer)
	require.NoError(t, shared.client.Update(t.Context(), &machine))
	require.NoError(t, shared.client.Delete(t.Context(), w))
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonDeleting)
		assert.Equal(c, kaitov1alpha1.StateDeleting, w.Status.State)
		if ready := meta.FindStatusCondition(w.Status.Conditions, kaitov1alpha1.ConditionReady); assert.NotNil(c, ready) {
			assert.Contains(c, ready.Message, "released: Machine "+machine.Name)
		}
	})
	assert.Contains(t, got.Finalizers, kaitov1alpha1.Finalizer)

	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(&machine), &machine))
	controllerutil.RemoveFinalizer(&machine, karpenterv1alpha5.TerminationFinalizer)
	require.NoError(t, shared.client.Update(t.Context(), &machine))
	require.Eventually(t, func() bool {
		return apierrors.IsNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &kaitov1alpha1.Workspace{}))
	}, eventually.Long, eventually.Tick)
}

func TestAClaimWhoseWorkspaceWasRemovedByForceIsDeleted(t *testing.T) {
	running := start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	create(t, w)
	eventuallyMachines(t, w, 1)
	running.stop()
	got := eventuallyWorkspace(t, w, func(*assert.CollectT, *kaitov1alpha1.Workspace) {})
	got.Finalizers = nil
	require.NoError(t, shared.client.Update(t.Context(), got))
	require.NoError(t, shared.client.Delete(t.Context(), got))
	assert.Len(t, machinesOf(t, w), 1)
	start(t, options())
	eventuallyMachines(t, w, 0)
}
