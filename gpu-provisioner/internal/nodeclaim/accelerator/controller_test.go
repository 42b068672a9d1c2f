// SPDX-License-Identifier: Apache-2.0

package accelerator

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/scheme"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

const nodeID = "azure:///node"

// fixture is a Reconciler with one claim and its Node.
type fixture struct {
	*Reconciler
	t     *testing.T
	clock *testclock.FakeClock
}

func newFixture(t *testing.T) *fixture {
	kinds, err := scheme.New()
	require.NoError(t, err)
	clk := testclock.NewFakeClock(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC))
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
	claim.Spec.Resources.Requests = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}
	claim.Status.ProviderID = nodeID
	claim.StatusConditions().SetTrue(karpv1.ConditionTypeLaunched)
	claim.StatusConditions().SetTrue(karpv1.ConditionTypeRegistered)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{ProviderID: nodeID}}
	node.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(clk.Now())},
	}
	c := fake.NewClientBuilder().WithScheme(kinds).WithObjects(claim, node).WithStatusSubresource(claim, node).
		WithIndex(&corev1.Node{}, "spec.providerID", func(o client.Object) []string { return []string{o.(*corev1.Node).Spec.ProviderID} }).
		Build()
	return &fixture{t: t, clock: clk, Reconciler: New(Config{
		Client: c, Events: events.NewFakeRecorder(10), Metrics: prometheus.NewRegistry(), Clock: clk,
		Timeout: 15 * time.Minute,
	})}
}

func (f *fixture) reconcile() (karpv1.NodeClaim, time.Duration) {
	f.t.Helper()
	var claim karpv1.NodeClaim
	require.NoError(f.t, f.Client.Get(f.t.Context(), client.ObjectKey{Name: "c"}, &claim))
	result, err := f.Reconcile(f.t.Context(), &claim)
	require.NoError(f.t, err)
	require.NoError(f.t, f.Client.Get(f.t.Context(), client.ObjectKey{Name: "c"}, &claim))
	return claim, result.RequeueAfter
}

func (f *fixture) node(change func(*corev1.Node)) {
	var node corev1.Node
	require.NoError(f.t, f.Client.Get(f.t.Context(), client.ObjectKey{Name: "n"}, &node))
	change(&node)
	require.NoError(f.t, f.Client.Status().Update(f.t.Context(), &node))
}

func TestNodeWithoutGPUsFailsAfterTheTimeout(t *testing.T) {
	f := newFixture(t)
	f.clock.Step(5 * time.Minute)
	claim, again := f.reconcile()
	assert.Equal(t, 10*time.Minute, again, "requeued at the deadline")
	assert.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsUnknown())

	f.clock.Step(10 * time.Minute)
	claim, _ = f.reconcile()
	initialized := claim.StatusConditions().Get(karpv1.ConditionTypeInitialized)
	require.True(t, initialized.IsFalse())
	assert.Equal(t, karpenterv1alpha5.ReasonAcceleratorNotReady, initialized.Reason)
	assert.Contains(t, initialized.Message, "none of the 4 requested")
	for range 3 {
		f.clock.Step(time.Hour)
		f.reconcile()
	}
	assert.InDelta(t, 1, promtest.ToFloat64(f.failed), 0, "counted once")

	f.node(func(n *corev1.Node) {
		n.Status.Allocatable = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}
	})
	claim, _ = f.reconcile()
	assert.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsUnknown(), "reset for Karpenter")
}

func TestNoFailure(t *testing.T) {
	for name, change := range map[string]func(*corev1.Node){
		"Node not ready": func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse },
		"Node reports its GPUs": func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.node(change)
			f.clock.Step(time.Hour)
			claim, again := f.reconcile()
			assert.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsUnknown())
			assert.Zero(t, again)
		})
	}
}
