// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// look is a Workspace as of a fixed moment, with one condition.
func look(condition, reason, message string) *snapshot {
	w := &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{
			Name:              "w",
			Namespace:         "team",
			Generation:        1,
			CreationTimestamp: metav1.NewTime(now.Add(-5 * time.Minute)),
		},
	}
	w.Status.Conditions = []metav1.Condition{
		{Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: 1},
	}
	return &snapshot{workspace: w, nodes: map[string]*corev1.Node{}}
}

var now = time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)

func lines(s *snapshot) string { return strings.Join(renderer{now: now}.lines(s), "\n") }

func TestAPodShowsTheContainerThatHoldsItUp(t *testing.T) {
	t.Parallel()
	waiting := func(name, reason, message string, restarts int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{
			Name:         name,
			RestartCount: restarts,
			State:        corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}
	}
	ended := corev1.ContainerStatus{
		Name:  "fetch",
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 4, Reason: "Error"}},
	}
	running := corev1.ContainerStatus{
		Name:  "engine",
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}
	for name, test := range map[string]struct {
		status corev1.PodStatus
		want   string
		level  level
	}{
		"an image": {corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{waiting("engine", "ImagePullBackOff", "manifest unknown", 0)}},
			"Pending, 0 of 1 containers ready; engine: ImagePullBackOff: manifest unknown", levelBad},
		"a crash": {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{waiting("engine", "CrashLoopBackOff", "", 4)}},
			"Running, 0 of 1 containers ready; engine: CrashLoopBackOff (4 restarts)", levelBad},
		"an init container comes first": {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{ended}, ContainerStatuses: []corev1.ContainerStatus{waiting("engine", "PodInitializing", "", 0)}},
			"Pending, 0 of 1 containers ready; fetch exited with 4 (Error)", levelBad},
		"loading": {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running}},
			"Running, 0 of 1 containers ready; engine is not ready", levelWaiting},
		"no node": {corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes"}}},
			"Unschedulable: 0/3 nodes", levelBad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := podBranch(
				&corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: "p"},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "engine"}}},
					Status:     test.status,
				},
			)
			assert.Equal(t, test.want, b.text)
			assert.Equal(t, test.level, b.level)
		})
	}
}

func TestTreeShowsAClaimsProgressAndItsNodeClaim(t *testing.T) {
	t.Parallel()
	s := look(kaitov1alpha1.ConditionReconciling, "Provisioning", "")
	first := machine("ws1", "u", "")
	first.Acknowledged, first.Created, first.InstanceType = true, now.Add(-time.Minute), "Standard_X"
	first.Object.SetUID("m")
	behind := placement.NodeClaims{}.Read(
		&karpv1.NodeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Name:            "ws1",
				OwnerReferences: []metav1.OwnerReference{{UID: "m", Controller: new(true)}},
			},
		},
	)
	behind.Acknowledged, behind.NodeName, behind.GPUs = true, "n", 2
	behind.Launched = placement.Condition{Status: corev1.ConditionTrue}
	behind.Registered = placement.Condition{Status: corev1.ConditionUnknown, Reason: "NodeNotFound", Message: "not yet"}
	s.claims = []placement.Claim{first, behind}
	got := lines(s)
	assert.Contains(
		t, got,
		"└─ … Machine ws1  waits for the machine to launch; Standard_X  60s\n   └─ … NodeClaim ws1  waits for the node to join (NodeNotFound: not yet)\n      └─ ✗ Node n  does not exist",
	)
	s.hidden = []string{"Nodes"}
	assert.Contains(t, lines(s), "… Node n  may not be read")
	assert.Contains(t, lines(s), "not shown: you may not read Nodes")
}

func TestStalledShowsRemedyAndOldSpecDoesNotEndTheWatch(t *testing.T) {
	t.Parallel()
	s := look(kaitov1alpha1.ConditionStalled, "QuotaExceeded", "limit 0,\n needed 24")
	got := lines(s)
	assert.Contains(t, got, "✗ Workspace team/w  stalled: QuotaExceeded  5m")
	assert.Contains(t, got, "QuotaExceeded: limit 0, needed 24\n  what to do: `az quota update`")
	ended, err := ending(s.workspace)
	assert.True(t, ended)
	assert.ErrorContains(t, err, "is stalled: QuotaExceeded")

	s.workspace.Generation = 2
	ended, err = ending(s.workspace)
	assert.False(t, ended, "the operator has not looked at the new spec yet")
	assert.NoError(t, err)

	ready := look(kaitov1alpha1.ConditionReady, "Ready", "")
	ended, err = ending(ready.workspace)
	assert.True(t, ended)
	assert.NoError(t, err)
}

func TestProgressIsABarThatStaysWithinItsWidth(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		step, total int64
		want        string
	}{
		{0, 100, "[░░░░░░░░░░░░░░░░░░░░░░░░] 0% (0 of 100 steps)"},
		{50, 100, "[████████████░░░░░░░░░░░░] 50% (50 of 100 steps)"},
		{130, 100, "[████████████████████████] 100% (130 of 100 steps)"},
		{-1, 100, "[░░░░░░░░░░░░░░░░░░░░░░░░] 0% (-1 of 100 steps)"},
		{7, 0, "step 7"},
	} {
		assert.Equal(t, test.want, progressLine(&tuningv1alpha1.Progress{Step: test.step, TotalSteps: test.total}))
	}
}

func TestALineIsCutToTheTerminalAndColoursTakeNoRoom(t *testing.T) {
	t.Parallel()
	r := renderer{palette: palette{on: true}, width: 4}
	assert.Equal(t, "\x1b[32m✓\x1b[0m ab", r.cut(r.palette.paint(green, "✓")+" abcdef"))
	assert.Equal(t, "abcdef", renderer{}.cut("abcdef"))
}

func TestFlagsAreLaidOverAConfigWhateverItsSpelling(t *testing.T) {
	t.Parallel()
	got, err := setKeys("vllm:\n  --max_model_len: 1\n  dtype: half\n", "vllm", map[string]any{"max-model-len": 2})
	require.NoError(t, err)
	assert.YAMLEq(t, "vllm: {max-model-len: 2, dtype: half}", got)
	got, err = setKeys("training_config: {LoraConfig: {r: 4}}", "DatasetConfig", map[string]any{"max_seq_length": 9})
	require.NoError(t, err)
	assert.YAMLEq(t, "training_config: {LoraConfig: {r: 4}, DatasetConfig: {max_seq_length: 9}}", got)
	unchanged, err := setKeys("not: [yaml", "vllm", nil)
	require.NoError(t, err, "the planner checks unchanged names")
	assert.Equal(t, "not: [yaml", unchanged)
	_, err = setKeys("not: [yaml", "vllm", map[string]any{"dtype": "half"})
	assert.Error(t, err)
}

func TestWhichOwnersObjectsAreShown(t *testing.T) {
	t.Parallel()
	s := look(kaitov1alpha1.ConditionReady, "Ready", "")
	s.workspace.UID = "u"
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: "u", Controller: new(true)}}},
	}
	assert.True(t, ours(s.workspace, d))
	assert.False(t, ours(s.workspace, &appsv1.Deployment{}), "another object may have the Workspace's name")
}
