// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

func ctrlConfig() config.Controller {
	// Tests start the operator several times in one process; names must be unique only within one.
	return config.Controller{SkipNameValidation: ptr.To(true)}
}

// newNamespace also waits for its default service account, without which no pod is admitted.
func newNamespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	require.NoError(t, shared.client.Create(t.Context(), ns))
	// What a test leaves would be work for the operator of the next one.
	t.Cleanup(func() {
		ctx := context.Background()
		assert.NoError(t, shared.client.DeleteAllOf(ctx, &kaitov1alpha1.GPUBudget{}, client.InNamespace(ns.Name)))
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			left := &kaitov1alpha1.WorkspaceList{}
			require.NoError(c, shared.client.List(ctx, left, client.InNamespace(ns.Name)))
			for i := range left.Items {
				assert.NoError(c, client.IgnoreNotFound(shared.client.Delete(ctx, &left.Items[i])))
			}
			assert.Empty(c, left.Items)
		}, eventually.Long, eventually.Tick)
	})
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(
			c, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{}),
		)
	}, eventually.Long, eventually.Tick)
	return ns.Name
}

// seed is the quick start's Workspace.
func seed(namespace string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: "workspace-tuning-phi-3", Namespace: namespace},
		Resource: kaitov1alpha1.ResourceSpec{
			InstanceType:  "Standard_NC6s_v3",
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "tuning-phi-3-" + namespace}},
		},
		Tuning: &kaitov1alpha1.TuningSpec{
			Preset: &kaitov1alpha1.PresetSpec{Name: "phi-3-mini-128k-instruct"},
			Method: kaitov1alpha1.MethodQLora,
			Input:  &kaitov1alpha1.DataSource{URLs: []string{"https://example.com/train.parquet?download=true"}},
			Output: &kaitov1alpha1.DataDestination{Image: "registry.example.com/adapter:0.0.1", ImagePushSecret: "push"},
		},
	}
}

// inferenceWorkspace is a plain inference Workspace.
func inferenceWorkspace(namespace, name string) *kaitov1alpha1.Workspace {
	return &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Resource:   kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4"},
		Inference:  &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
	}
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		require.NoError(t, shared.client.Create(t.Context(), o))
	}
}

func pushSecret(namespace string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "push", Namespace: namespace},
		StringData: map[string]string{".dockerconfigjson": `{"auths":{}}`},
		Type:       corev1.SecretTypeDockerConfigJson,
	}
}

// eventuallyWorkspace waits until the Workspace satisfies the check, and returns it.
func eventuallyWorkspace(
	t *testing.T, w *kaitov1alpha1.Workspace, check func(*assert.CollectT, *kaitov1alpha1.Workspace),
) *kaitov1alpha1.Workspace {
	t.Helper()
	got := &kaitov1alpha1.Workspace{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), got))
		check(c, got)
	}, eventually.Long, eventually.Tick)
	return got
}

func hasCondition(
	c assert.TestingT, w *kaitov1alpha1.Workspace, conditionType string, status metav1.ConditionStatus, reason string,
) {
	got := meta.FindStatusCondition(w.Status.Conditions, conditionType)
	if !assert.NotNil(c, got, "condition %s", conditionType) {
		return
	}
	assert.Equal(c, status, got.Status, "%s: %s: %s", conditionType, got.Reason, got.Message)
	assert.Equal(c, reason, got.Reason, "%s: %s", conditionType, got.Message)
}

func machinesOf(t assert.TestingT, w *kaitov1alpha1.Workspace) []karpenterv1alpha5.Machine {
	list := &karpenterv1alpha5.MachineList{}
	assert.NoError(t, shared.client.List(context.Background(), list, client.MatchingLabels{
		kaitov1alpha1.LabelWorkspaceName: w.Name, kaitov1alpha1.LabelWorkspaceNamespace: w.Namespace,
	}))
	return list.Items
}

// eventuallyMachines waits until the Workspace has n Machines that are not being deleted.
func eventuallyMachines(t *testing.T, w *kaitov1alpha1.Workspace, n int) []karpenterv1alpha5.Machine {
	t.Helper()
	var out []karpenterv1alpha5.Machine
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		out = nil
		for _, m := range machinesOf(c, w) {
			if m.DeletionTimestamp == nil {
				out = append(out, m)
			}
		}
		assert.Len(c, out, n)
	}, eventually.Long, eventually.Tick)
	return out
}

// launch plays the provisioner: the Machine's Node joins, with its labels, its taint and its GPUs, and the Machine
// becomes Ready.
func launch(t *testing.T, m *karpenterv1alpha5.Machine, gpus string) *corev1.Node {
	t.Helper()
	node := joinNode(t, "aks-"+m.Name, m.Labels, m.Spec.Taints, gpus)
	setMachine(t, m, node.Name, "", "")
	return node
}

func joinNode(t *testing.T, name string, labels map[string]string, taints []corev1.Taint, gpus string) *corev1.Node {
	t.Helper()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{corev1.LabelHostname: name},
			Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
		},
		Spec: corev1.NodeSpec{Taints: taints},
	}
	for k, v := range labels {
		node.Labels[k] = v
	}
	create(t, node)
	setGPUs(t, node, gpus)
	t.Cleanup(func() { _ = shared.client.Delete(context.Background(), node) }) // a test may have deleted it
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(node), node))
		ready := false
		for _, condition := range node.Status.Conditions {
			ready = ready || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		}
		assert.True(c, ready)
	}, eventually.Long, eventually.Tick)
	return node
}

func setGPUs(t *testing.T, node *corev1.Node, gpus string) {
	t.Helper()
	before := node.DeepCopy()
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("96"),
		corev1.ResourceMemory:           resource.MustParse("880Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("2Ti"),
		kaitov1alpha1.ResourceNvidiaGPU: resource.MustParse(gpus),
	}
	node.Status.Allocatable = node.Status.Capacity
	require.NoError(t, shared.client.Status().Patch(t.Context(), node, client.MergeFrom(before)))
}

// setMachine writes a Machine's status: Ready with a node, or launched=False with a reason.
func setMachine(t *testing.T, m *karpenterv1alpha5.Machine, node, reason, message string) {
	t.Helper()
	before := m.DeepCopy()
	m.Status.NodeName = node
	status := corev1.ConditionTrue
	if reason != "" {
		status = corev1.ConditionFalse
	}
	m.Status.Conditions = nil
	for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
		condition := karpenterv1alpha5.Condition{
			Type:               c,
			Status:             status,
			Reason:             reason,
			Message:            message,
			LastTransitionTime: metav1.Now(),
		}
		if reason != "" && c != karpenterv1alpha5.ConditionMachineLaunched && c != karpenterv1alpha5.ConditionReady {
			condition = karpenterv1alpha5.Condition{
				Type:               c,
				Status:             corev1.ConditionUnknown,
				Reason:             "AwaitingReconciliation",
				LastTransitionTime: metav1.Now(),
			}
		}
		m.Status.Conditions = append(m.Status.Conditions, condition)
	}
	require.NoError(t, shared.client.Status().Patch(t.Context(), m, client.MergeFrom(before)))
}

func eventuallyJob(t *testing.T, w *kaitov1alpha1.Workspace) *tuningv1alpha1.TuningJob {
	t.Helper()
	job := &tuningv1alpha1.TuningJob{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), job))
	}, eventually.Long, eventually.Tick)
	return job
}

// setJob writes a TuningJob's status.
func setJob(
	t *testing.T, job *tuningv1alpha1.TuningJob, edit func(*tuningv1alpha1.TuningJobStatus),
	conditions ...metav1.Condition,
) {
	t.Helper()
	before := job.DeepCopy()
	for _, c := range conditions {
		c.LastTransitionTime = metav1.NewTime(time.Now())
		meta.SetStatusCondition(&job.Status.Conditions, c)
	}
	edit(&job.Status)
	require.NoError(t, shared.client.Status().Patch(t.Context(), job, client.MergeFrom(before)))
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func succeed(t *testing.T, job *tuningv1alpha1.TuningJob) {
	t.Helper()
	setJob(t, job, func(s *tuningv1alpha1.TuningJobStatus) {
		s.Output = &tuningv1alpha1.Output{Image: "registry.example.com/adapter@" + digest, Digest: digest}
	}, metav1.Condition{Type: tuningv1alpha1.ConditionSucceeded, Status: metav1.ConditionTrue, Reason: tuningv1alpha1.ReasonSucceeded})
}
