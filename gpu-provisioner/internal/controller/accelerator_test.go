// SPDX-License-Identifier: Apache-2.0

package controller

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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

const nodeID = "azure:///node"

// bench is an Accelerators over one claim and its Node.
type bench struct {
	*Accelerators
	t     *testing.T
	clock *testclock.FakeClock
}

func newBench(t *testing.T) *bench {
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	scheme.AddKnownTypes(
		schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{},
	)
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
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(claim, node).WithStatusSubresource(claim, node).
		WithIndex(&corev1.Node{}, "spec.providerID", func(o client.Object) []string { return []string{o.(*corev1.Node).Spec.ProviderID} }).
		Build()
	return &bench{t: t, clock: clk, Accelerators: &Accelerators{
		Client: c, Clock: clk, Recorder: record.NewFakeRecorder(10), Timeout: 15 * time.Minute,
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "failed"}),
	}}
}

func (b *bench) reconcile() (karpv1.NodeClaim, time.Duration) {
	b.t.Helper()
	var claim karpv1.NodeClaim
	require.NoError(b.t, b.Client.Get(b.t.Context(), client.ObjectKey{Name: "c"}, &claim))
	result, err := b.Reconcile(b.t.Context(), &claim)
	require.NoError(b.t, err)
	require.NoError(b.t, b.Client.Get(b.t.Context(), client.ObjectKey{Name: "c"}, &claim))
	return claim, result.RequeueAfter
}

func (b *bench) node(change func(*corev1.Node)) {
	var node corev1.Node
	require.NoError(b.t, b.Client.Get(b.t.Context(), client.ObjectKey{Name: "n"}, &node))
	change(&node)
	require.NoError(b.t, b.Client.Status().Update(b.t.Context(), &node))
}

func TestANodeWithoutItsGPUsIsGivenTimeThenAVerdictThatIsTakenBackWhenTheyComeUp(t *testing.T) {
	b := newBench(t)
	b.clock.Step(5 * time.Minute)
	claim, again := b.reconcile()
	assert.Equal(t, 10*time.Minute, again, "no sooner and no later")
	assert.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsUnknown())

	b.clock.Step(10 * time.Minute)
	claim, _ = b.reconcile()
	verdict := claim.StatusConditions().Get(karpv1.ConditionTypeInitialized)
	require.True(t, verdict.IsFalse())
	assert.Equal(t, ReasonAcceleratorNotReady, verdict.Reason)
	assert.Contains(t, verdict.Message, "of 4 asked for")
	for range 3 {
		b.clock.Step(time.Hour)
		b.reconcile()
	}
	assert.InDelta(t, 1, promtest.ToFloat64(b.failed), 0, "counted once")

	b.node(func(n *corev1.Node) {
		n.Status.Allocatable = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}
	})
	claim, _ = b.reconcile()
	assert.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsUnknown(), "core goes on from here")
}

func TestANodeThatIsNotReadyOrHasItsGPUsGetsNoVerdict(t *testing.T) {
	for name, change := range map[string]func(*corev1.Node){
		"not ready": func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse },
		"its GPUs": func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.node(change)
			b.clock.Step(time.Hour)
			claim, again := b.reconcile()
			assert.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsUnknown())
			assert.Zero(t, again)
		})
	}
}
