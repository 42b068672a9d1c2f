// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/plan"
	"kaito.sh/workspace-operator/internal/scheme"
)

func at(seconds int64) *metav1.Time {
	t := metav1.Unix(seconds, 0)
	return &t
}

func TestMetricsTellWhereWorkspacesStandAndWhatTheyCost(t *testing.T) {
	t.Parallel()
	scheme, err := scheme.New()
	require.NoError(t, err)
	w := &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "team"}}
	w.Status = kaitov1alpha1.WorkspaceStatus{
		State: kaitov1alpha1.StateProvisioning, WorkerNodes: []string{"n1"},
		Plan: &kaitov1alpha1.PlanStatus{Nodes: 2, GPUsPerNode: 4, CostPerHour: "30.000"},
	}
	conditions.MarkReconciling(w, kaitov1alpha1.ReasonProvisioning, "")
	idle := &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "other"}}
	clk := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	registry := prometheus.NewPedanticRegistry()
	_, err = NewMetrics(registry, fake.NewClientBuilder().WithScheme(scheme).WithObjects(w, idle).Build(), clk)
	require.NoError(t, err)
	clk.SetTime(clk.Now().Add(30 * time.Minute))
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP kaito_workspace_cost_dollars_per_hour List price of the nodes in use, US dollars an hour.
# TYPE kaito_workspace_cost_dollars_per_hour gauge
kaito_workspace_cost_dollars_per_hour{namespace="team"} 15
# HELP kaito_workspace_gpu_hours_total Hours of GPUs in use, counted from one scrape to the next.
# TYPE kaito_workspace_gpu_hours_total counter
kaito_workspace_gpu_hours_total{namespace="team"} 2
# HELP kaito_workspace_gpus GPUs in use.
# TYPE kaito_workspace_gpus gauge
kaito_workspace_gpus{namespace="team"} 4
# HELP kaito_workspaces Workspaces by where they stand, and why.
# TYPE kaito_workspaces gauge
kaito_workspaces{reason="",state=""} 1
kaito_workspaces{reason="Provisioning",state="Provisioning"} 1
`)))
}

func TestPhasesAreObservedOnceAndAttemptsEachOnce(t *testing.T) {
	t.Parallel()
	scheme, err := scheme.New()
	require.NoError(t, err)
	registry := prometheus.NewPedanticRegistry()
	clk := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	m, err := NewMetrics(registry, fake.NewClientBuilder().WithScheme(scheme).Build(), clk)
	require.NoError(t, err)

	w := &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: *at(0)}}
	step := func(edit func(*kaitov1alpha1.WorkspaceStatus)) {
		before := w.DeepCopy()
		if w.Status.Milestones == nil {
			w.Status.Milestones = &kaitov1alpha1.Milestones{}
		}
		edit(&w.Status)
		m.record(before.Status, w)
	}
	step(func(s *kaitov1alpha1.WorkspaceStatus) { s.Milestones.NodesRequested = at(10) })
	step(func(s *kaitov1alpha1.WorkspaceStatus) {
		s.Attempts = placement.Record(
			s.Attempts, plan.Choice{InstanceType: "A", CapacityType: "spot"}, "QuotaExceeded", "", clk.Now(),
		)
	})
	step(func(s *kaitov1alpha1.WorkspaceStatus) { s.Milestones.NodesReady = at(110) })
	step(func(s *kaitov1alpha1.WorkspaceStatus) { s.Milestones.Tuned = at(1110) })
	step(func(s *kaitov1alpha1.WorkspaceStatus) { s.Milestones.EngineReady = at(1160) })
	step(func(*kaitov1alpha1.WorkspaceStatus) {})

	families, err := registry.Gather()
	require.NoError(t, err)
	sums := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "kaito_workspace_phase_duration_seconds" {
			continue
		}
		for _, metric := range f.GetMetric() {
			require.EqualValues(t, 1, metric.GetHistogram().GetSampleCount())
			sums[metric.GetLabel()[0].GetValue()] = metric.GetHistogram().GetSampleSum()
		}
	}
	assert.Equal(t, map[string]float64{"nodes": 100, "tuning": 1000, "engine": 50, "total": 1160}, sums)
	assert.InDelta(t, 1, testutil.ToFloat64(m.attempts.WithLabelValues("A", "spot", "QuotaExceeded")), 0)
}
