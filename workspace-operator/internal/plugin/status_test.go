// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

func TestStatusShowsTheTreeOfAServingWorkspace(t *testing.T) {
	t.Parallel()
	w := ready(t, newNamespace(t), "tree")
	r := online(t, w.Namespace, "status", w.Name)
	require.Zero(t, r.code, r.errOut)
	for _, want := range []string{
		`✓ Workspace ` + w.Namespace + `/tree  Running: Ready`,
		`\n│   plan: 1 × Standard_NC24ads_A100_v4 on-demand, tensor 1 × pipeline 1 × data 1, 131072 tokens, \$3\.\d+ per hour \(list price of 20`,
		`\n├─ ✓ Machine ws[0-9a-f]{9}  Ready; Standard_NC24ads_A100_v4 on-demand  `,
		`\n│  └─ ✓ Node aks-ws[0-9a-f]{9}  Ready, 1 of 1 GPUs allocatable  `,
		`\n│     └─ ✓ Pod tree-\S+  Running, 2 of 2 containers ready  `,
		`\n├─ ✓ Deployment tree  1 of 1 ready`,
		`\n└─ ✓ Service tree  http://tree\.` + w.Namespace + `\.svc`,
		`\nmilestones \(since \d\d:\d\d:\d\d\)\n  \d\d:\d\d:\d\d  planned          \+`,
		`\n  \d\d:\d\d:\d\d  engine ready     \+`,
	} {
		assert.Regexp(t, want, r.out)
	}
	assert.NotContains(t, r.out, "\x1b", "no colours where there is no terminal")
	assert.NotContains(t, r.out, "what to do")

	all := online(t, w.Namespace, "status")
	assert.Equal(t, "✓ Workspace "+w.Namespace+"/tree", all.out[:len("✓ Workspace "+w.Namespace+"/tree")])
}

func TestWatchEndsWhereAPersonMustActAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := serving(newNamespace(t), "stuck")
	w.Inference.Preset.Name = "phi-4-mimi-instruct"
	create(t, w)
	release(t, w)
	got := start(t, nil, in(w.Namespace, "status", w.Name, "-w")...).wait()
	assert.Equal(t, 1, got.code, got.out+got.errOut)
	assert.Contains(t, got.errOut, "Workspace "+w.Namespace+"/stuck is stalled: UnknownPreset")
	assert.Contains(t, got.out, "did you mean phi-4-mini-instruct", "the output has the complete reason")
	assert.Contains(t, got.out, "\n  what to do: ")
	assert.Contains(t, got.out, "kubectl kaito explain UnknownPreset")
}

func TestStatusShowsFailureAndRemedyDuringRetries(t *testing.T) {
	t.Parallel()
	w := serving(newNamespace(t), "refused")
	create(t, w)
	release(t, w)
	say(
		t, eventuallyMachine(t, w), "", corev1.ConditionFalse, "QuotaExceeded",
		"limit 24, in use 24, needed 24 vCPUs of family standardNCADSA100v4Family",
	)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		r := online(t, w.Namespace, "status", w.Name)
		require.Zero(c, r.code, r.errOut)
		assert.Regexp(
			c,
			`attempt \d\d:\d\d:\d\d: Standard_NC24ads_A100_v4 on-demand: QuotaExceeded: Machine ws\S+: limit 24, in use 24`,
			r.out,
		)
		assert.Contains(c, r.out, "\n  what to do: ")
	}, eventually.Long, eventually.Tick)
}

func TestWatchPrintsChangesAndEndsWhenReady(t *testing.T) {
	t.Parallel()
	w := serving(newNamespace(t), "followed")
	create(t, w)
	release(t, w)
	r := start(t, nil, in(w.Namespace, "status", w.Name, "--watch")...)
	m := eventuallyMachine(t, w)
	r.until("Machine " + m.Name)
	launch(t, m)
	got := r.wait()
	assert.Zero(t, got.code, got.out+got.errOut)
	assert.Regexp(t, `\n +\d+\.\ds  Node aks-\S+ +Ready, 1 of 1 GPUs allocatable\n`, got.out)
	assert.Regexp(t, `\n +\d+\.\ds  Deployment followed +1 of 1 ready\n`, got.out)
	assert.Regexp(t, `\n✓ Workspace \S+  Running: Ready`, got.out, "the tree is at the end")
}

func TestWatchEndsOnInterruptTimeoutAndDeletion(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	w := serving(namespace, "waiting")
	create(t, w)
	release(t, w)

	interrupted := start(t, nil, in(namespace, "status", w.Name, "-w")...)
	interrupted.until("Workspace " + namespace + "/waiting")
	interrupted.signals <- os.Interrupt
	got := interrupted.wait()
	assert.Equal(t, 130, got.code)
	assert.Equal(t, "interrupted\n", got.errOut)

	expired := online(t, namespace, "status", w.Name, "-w", "--timeout", "300ms")
	assert.Equal(t, 1, expired.code)
	assert.Contains(t, expired.errOut, "within --timeout")

	deleted := start(t, nil, in(namespace, "status", w.Name, "-w")...)
	deleted.until("Workspace " + namespace + "/waiting")
	require.NoError(t, shared.client.Delete(t.Context(), w))
	got = deleted.wait()
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.errOut, "was deleted")
}

func TestStatusShowsATuningJobWithItsProgress(t *testing.T) {
	t.Parallel()
	w := serving(newNamespace(t), "tuned")
	w.Inference = nil
	w.Tuning = &kaitov1alpha1.TuningSpec{
		Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"},
		Method: kaitov1alpha1.MethodQLora,
		Input: &kaitov1alpha1.DataSource{
			Dataset: "org/data",
		},
		Output: &kaitov1alpha1.DataDestination{Image: "registry.example.com/adapter:1"},
	}
	create(t, w)
	release(t, w)
	n := launch(t, eventuallyMachine(t, w))
	job := &tuningv1alpha1.TuningJob{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), job))
	}, eventually.Long, eventually.Tick)
	tune(t, job, n)

	r := online(t, w.Namespace, "status", w.Name)
	require.Zero(t, r.code, r.errOut)
	assert.Regexp(t, `\n└─ … TuningJob tuned  Training: step 450  `, r.out)
	assert.Contains(t, r.out, "[██████████░░░░░░░░░░░░░░] 45% (450 of 1000 steps), loss 0.71, left 12m")
	assert.Regexp(t, `\n   └─ … Job tuned  1 active, 0 failed  `, r.out)
	assert.Regexp(t, `\n      └─ … Pod tuned-\S+  Pending, 0 of 1 containers ready; train runs  `, r.out)

	logs := online(t, w.Namespace, "logs", w.Name, "--tuning")
	assert.Zero(t, logs.code, logs.errOut)
	assert.Contains(t, logs.out, logLine)
	all := online(t, w.Namespace, "logs", w.Name, "--all-containers")
	assert.Regexp(t, `\[tuned-\S+/train\] `+logLine, all.out)
}

// tune plays the tuning-operator: a Job whose second step runs, and what the TuningJob says of it.
func tune(t *testing.T, job *tuningv1alpha1.TuningJob, n *corev1.Node) {
	t.Helper()
	step := func(name string) corev1.Container {
		return corev1.Container{Name: name, Image: "example.com/" + name + ":1"}
	}
	create(t, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: job.Name, Namespace: job.Namespace, OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(job, tuningv1alpha1.GroupVersion.WithKind("TuningJob")),
		}},
		Spec: batchv1.JobSpec{BackoffLimit: ptr.To[int32](0), Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{
				Annotations: map[string]string{
					cluster.OutcomeAnnotation: cluster.Outcome{"train": {After: eventually.Long}}.Annotation(),
				},
			},
			Spec: corev1.PodSpec{
				RestartPolicy:  corev1.RestartPolicyNever,
				InitContainers: []corev1.Container{step("fetch"), step("train")},
				Containers:     []corev1.Container{step("push")},
				NodeSelector: map[string]string{
					corev1.LabelHostname: n.Name,
				},
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			},
		}},
	})
	before := job.DeepCopy()
	job.Status.Progress = &tuningv1alpha1.Progress{Step: 450, TotalSteps: 1000, Loss: "0.71", ETA: "12m"}
	meta.SetStatusCondition(
		&job.Status.Conditions,
		metav1.Condition{
			Type:    tuningv1alpha1.ConditionReady,
			Status:  metav1.ConditionFalse,
			Reason:  "Training",
			Message: "step 450",
		},
	)
	require.NoError(t, shared.client.Status().Patch(t.Context(), job, client.MergeFrom(before)))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		pods := &corev1.PodList{}
		require.NoError(c, shared.client.List(t.Context(), pods, client.InNamespace(job.Namespace)))
		require.Len(c, pods.Items, 1)
		require.Len(c, pods.Items[0].Status.InitContainerStatuses, 2)
		assert.NotNil(c, pods.Items[0].Status.InitContainerStatuses[1].State.Running)
	}, eventually.Long, eventually.Tick)
}

func TestMissingWorkspaceErrorSaysWhereToLook(t *testing.T) {
	t.Parallel()
	r := online(t, newNamespace(t), "status", "missing")
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.errOut, "kubectl get workspaces -A")
	none := offline(t, nil, "status", "missing")
	assert.Equal(t, 2, none.code)
	assert.Contains(t, none.errOut, "set KUBECONFIG, --kubeconfig")
}

func TestStatusShowsWhatAUserMayReadAndNamesTheRest(t *testing.T) {
	t.Parallel()
	w := ready(t, newNamespace(t), "narrow")
	create(
		t,
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "narrow", Namespace: w.Namespace}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"kaito.sh"}, Resources: []string{"workspaces"}, Verbs: []string{"get", "list", "watch"}},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "narrow", Namespace: w.Namespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "narrow"},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "default", Namespace: w.Namespace}},
		},
	)
	config, err := shared.cluster.ServiceAccountKubeconfig(t.Context(), w.Namespace, "default")
	require.NoError(t, err)
	// Watching ends too, though only the Workspace may be watched.
	r := start(t, nil, "status", w.Name, "-w", "--kubeconfig", config).wait()
	assert.Zero(t, r.code, r.errOut)
	assert.Contains(t, r.out, "Workspace "+w.Namespace+"/narrow  Running: Ready")
	assert.Contains(t, r.out, "Node "+w.Status.WorkerNodes[0]+"  may not be read")
	assert.Contains(
		t, r.out,
		"not shown: you may not read Deployments, Machines, NodeClaims, Nodes, Pods, Services, StatefulSets; run kubectl kaito doctor",
	)
}
