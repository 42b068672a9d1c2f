// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

// giveUp plays a provider that deletes a claim which it could not launch. A finalizer keeps the claim in sight on its
// way out, as Karpenter's does.
func giveUp(t *testing.T, m *karpenterv1alpha5.Machine, reason, message string) (gone func()) {
	t.Helper()
	before := m.DeepCopy()
	controllerutil.AddFinalizer(m, "karpenter.sh/termination")
	require.NoError(t, shared.client.Patch(t.Context(), m, client.MergeFrom(before)))
	before = m.DeepCopy()
	m.Status.Conditions = []karpenterv1alpha5.Condition{
		{
			Type:               karpenterv1alpha5.ConditionMachineLaunched,
			Status:             corev1.ConditionUnknown,
			Reason:             reason,
			Message:            message,
			LastTransitionTime: metav1.Now(),
		},
	}
	require.NoError(t, shared.client.Status().Patch(t.Context(), m, client.MergeFrom(before)))
	require.NoError(t, shared.client.Delete(t.Context(), m))
	return func() {
		before := m.DeepCopy()
		controllerutil.RemoveFinalizer(m, "karpenter.sh/termination")
		require.NoError(t, client.IgnoreNotFound(shared.client.Patch(t.Context(), m, client.MergeFrom(before))))
	}
}

// Catches requests without a pause: a claim that is being deleted does not count as failed yet, and the next claim
// hides that it is gone.
func TestFailedLaunchIsAnAttemptAndIsNotRetriedAtOnce(t *testing.T) {
	for name, test := range map[string]struct{ reason, message, told string }{
		"with a reason": {"QuotaExceeded", "needs 24 vCPUs, has 10 of 10 left", "QuotaExceeded"},
		"without one":   {"Launching", "", kaitov1alpha1.ReasonLaunchFailed},
	} {
		t.Run(name, func(t *testing.T) {
			start(t, options())
			w := inferenceWorkspace(newNamespace(t), "model")
			create(t, w)
			m := eventuallyMachines(t, w, 1)[0]
			gone := giveUp(t, &m, test.reason, test.message)
			another := func() bool {
				for _, other := range machinesOf(t, w) {
					if other.UID != m.UID {
						return true
					}
				}
				return false
			}
			eventually.Never(t, another, "another is asked for while it is on its way out")
			gone()
			got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
				require.Len(c, w.Status.Attempts, 1)
				hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionFalse, kaitov1alpha1.ReasonAttemptsExhausted)
			})
			assert.Equal(t, test.told, got.Status.Attempts[0].Reason)
			assert.Contains(t, got.Status.Attempts[0].Message, test.message)
			eventually.Never(t, another, "the size is asked for again while it rests")
			require.Eventually(t, func() bool { return len(machinesOf(t, w)) == 0 }, eventually.Short, eventually.Tick)
		})
	}
}
