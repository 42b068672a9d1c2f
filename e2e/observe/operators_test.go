// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"context"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// TestOtherOperatorsMonitoringUsesExistingMetrics has Workspaces live through what there is to tell: a
// node that is not available, an attempt to tune that is lost, a model that is tuned and served.
func TestOtherOperatorsMonitoringUsesExistingMetrics(t *testing.T) {
	plain := []string{"--leader-elect=false", "--metrics-secure=false"}
	args := map[stack.Operator][]string{}
	for _, o := range stack.Operators {
		args[o] = plain
	}
	var s *stack.Stack
	var lost atomic.Bool
	s = stacktest.Start(
		t,
		stack.Options{Args: args, Play: func(ctx context.Context, pod *corev1.Pod) (cluster.Outcome, error) {
			if !lost.Swap(true) {
				return cluster.Outcome{"train": {After: 500 * time.Millisecond, ExitCode: 137, Reason: "Error"}}, nil
			}
			return s.TrainAndPush(ctx, pod)
		}},
	)
	s.Azure.SetQuota(map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 10}})
	require.NoError(t, s.Client.Create(t.Context(), &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: "poor", Namespace: stacktest.Namespace},
		Resource: kaitov1alpha1.ResourceSpec{
			InstanceType:  a100,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "poor"}},
		},
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
	}))
	stacktest.QuickStart(t, s)
	stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)
	for o, own := range map[stack.Operator]*regexp.Regexp{
		stack.WorkspaceOperator: regexp.MustCompile(`^kaito_workspace`), stack.TuningOperator: regexp.MustCompile(`^kaito_tuning`),
	} {
		require.EventuallyWithT(t, func(c *assert.CollectT) { // counters follow the status
			served := names(scrapeFrom(c, s.Metrics[o]))
			assert.True(
				c, served["kaito_workspace_failed_attempts_total"] || served["kaito_tuningjob_attempts_total"],
				"%s tells of no attempt", o,
			)
		}, eventually.Short, eventually.StoryTick)
		served := names(scrapeFrom(t, s.Metrics[o]))
		alertsAreOf(t, o, served)
		panelsAreOf(t, o, own, served)
	}
}
