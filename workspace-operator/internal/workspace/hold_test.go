// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
)

// heldBack is a Workspace whose claim is made, and whose first status is kept back.
type heldBack struct {
	t     *testing.T
	store client.Client
	clock *clocktesting.FakePassiveClock
	r     *Reconciler
	key   client.ObjectKey
}

func newHeldBack(t *testing.T) *heldBack {
	t.Helper()
	w := upgraded()["plain"]
	h := &heldBack{
		t:     t,
		store: upgradeStore(t, w, upgradeConfig()),
		clock: upgradeClock(),
		key:   client.ObjectKeyFromObject(w),
	}
	h.r = reconcilerAt(t, h.store, DefaultOptions(), h.clock)
	assert.Equal(t, DefaultOptions().StatusHold, h.pass(), "it is enqueued again")
	require.Len(t, h.machines(), 1)
	require.Empty(t, h.workspace().Status.Conditions)
	h.launch(corev1.ConditionUnknown, "Launching", "the pool is being made") // a provisioner watches it
	return h
}

func (h *heldBack) pass() time.Duration {
	h.t.Helper()
	result, err := h.r.Reconcile(h.t.Context(), reconcile.Request{NamespacedName: h.key})
	require.NoError(h.t, err)
	return result.RequeueAfter
}

// launch has the provisioner say how far the launch is.
func (h *heldBack) launch(status corev1.ConditionStatus, reason, message string) {
	h.t.Helper()
	m := &h.machines()[0]
	m.Status.Conditions = nil
	for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionReady} {
		m.Status.Conditions = append(
			m.Status.Conditions,
			karpenterv1alpha5.Condition{
				Type:               c,
				Status:             status,
				Reason:             reason,
				Message:            message,
				LastTransitionTime: metav1.NewTime(h.clock.Now()),
			},
		)
	}
	require.NoError(h.t, h.store.Status().Update(h.t.Context(), m))
}

func (h *heldBack) workspace() *kaitov1alpha1.Workspace {
	h.t.Helper()
	w := &kaitov1alpha1.Workspace{}
	require.NoError(h.t, h.store.Get(h.t.Context(), h.key, w))
	return w
}

func (h *heldBack) machines() []karpenterv1alpha5.Machine {
	h.t.Helper()
	list := &karpenterv1alpha5.MachineList{}
	require.NoError(h.t, h.store.List(h.t.Context(), list))
	return list.Items
}

// Catches a status that is never written when nothing else happens, one that is kept back anew by each pass, and times
// that are those of the write.
func TestHeldStatusIsWrittenOnTimeWithOriginalTimes(t *testing.T) {
	t.Parallel()
	h := newHeldBack(t)
	began := h.clock.Now()
	h.clock.SetTime(began.Add(300 * time.Millisecond))
	assert.Equal(t, DefaultOptions().StatusHold-300*time.Millisecond, h.pass(), "it was first kept back then")
	h.clock.SetTime(began.Add(3 * time.Second))
	h.pass()
	w := h.workspace()
	assert.True(t, conditions.IsTrue(w, conditions.Reconciling))
	assert.Equal(t, kaitov1alpha1.StateProvisioning, w.Status.State)
	require.NotNil(t, w.Status.Milestones)
	assert.Equal(t, began.Unix(), w.Status.Milestones.NodesRequested.Unix())
	_, held := h.r.holds.Get(w.UID)
	assert.False(t, held)
}

// Catches trouble that waits with the news of what goes well.
func TestAFailureIsWrittenAtOnceThoughAStatusIsKeptBack(t *testing.T) {
	t.Parallel()
	h := newHeldBack(t)
	h.launch(corev1.ConditionFalse, "QuotaExceeded", "0 of 24 vCPUs left")
	h.pass()
	c := conditions.Get(h.workspace(), kaitov1alpha1.ConditionResourceReady)
	require.NotNil(t, c, "nothing was written")
	assert.Contains(t, c.Message, "0 of 24 vCPUs left")
}

// Catches memory that grows by the Workspaces that have gone.
func TestNothingIsKeptBackOfAWorkspaceThatHasGone(t *testing.T) {
	t.Parallel()
	h := newHeldBack(t)
	w := h.workspace()
	require.NoError(t, h.store.Delete(t.Context(), w))
	for range 3 {
		h.pass()
	}
	_, held := h.r.holds.Get(w.UID)
	assert.False(t, held)
}

func TestAStatusMayNotBeKeptBackForLong(t *testing.T) {
	t.Parallel()
	o := DefaultOptions()
	for _, wrong := range []time.Duration{-time.Second, time.Minute} {
		o.StatusHold = wrong
		assert.ErrorContains(t, o.Validate(), "--status-hold")
	}
}
