// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/scheme"
)

func TestEachPhaseIsMeasuredOnce(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	clk := testclock.NewFakeClock(start)
	kinds, err := scheme.New()
	require.NoError(t, err)
	at := func(after time.Duration) metav1.Time { return metav1.NewTime(start.Add(after)) }
	claim := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "c", CreationTimestamp: at(0), Finalizers: []string{"x/y"}},
	}
	old := claim.DeepCopy()
	old.Name, old.CreationTimestamp = "old", at(-time.Hour)
	reach := func(c *karpv1.NodeClaim, condition string, when time.Duration) {
		c.StatusConditions().SetTrue(condition)
		for i := range c.Status.Conditions {
			if c.Status.Conditions[i].Type == condition {
				c.Status.Conditions[i].LastTransitionTime = at(when)
			}
		}
	}
	reach(old, karpv1.ConditionTypeLaunched, -time.Minute)
	c := fake.NewClientBuilder().WithScheme(kinds).WithObjects(claim, old).WithStatusSubresource(claim).Build()
	registry := prometheus.NewRegistry()
	r := New(Config{Client: c, Metrics: registry, Clock: clk})
	reconcile := func(name string) {
		for range 2 { // a second call measures nothing
			_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
			require.NoError(t, err)
		}
	}
	step := func(condition string, when time.Duration) {
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
		reach(claim, condition, when)
		require.NoError(t, c.Status().Update(t.Context(), claim))
		reconcile("c")
	}

	reconcile("old")
	reconcile("c")
	step(karpv1.ConditionTypeLaunched, 100*time.Second)
	step(karpv1.ConditionTypeRegistered, 130*time.Second)
	step(karpv1.ConditionTypeInitialized, 135*time.Second)
	require.NoError(t, c.Delete(t.Context(), claim))
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
	reconcile("c")
	clk.SetTime(claim.DeletionTimestamp.Add(40 * time.Second))
	claim.Finalizers = nil
	require.NoError(t, c.Update(t.Context(), claim))
	reconcile("c")

	counts, sums := map[string]uint64{}, map[string]float64{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, m := range families[0].GetMetric() {
		phase := m.GetLabel()[0].GetValue()
		counts[phase], sums[phase] = m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
	}
	for phase, seconds := range map[string]float64{
		launch: 100, registration: 30, initialization: 5, termination: 40,
	} {
		assert.EqualValues(t, 1, counts[phase], "%s; phases that ended before the start are not measured", phase)
		assert.InDelta(t, seconds, sums[phase], 1, phase)
	}
	assert.Empty(t, r.claims["c"], "nothing is kept for a claim that is gone")
}
