// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

// What anybody may ask the gpu-provisioner for, by each of its two kinds.
const (
	machineAlone = `
apiVersion: karpenter.sh/v1alpha5
kind: Machine
metadata:
  name: machine1
  labels: {karpenter.sh/provisioner-name: default, team: blue}
spec:
  requirements:
  - {key: node.kubernetes.io/instance-type, operator: In, values: [Standard_NC6s_v3]}
  - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
  resources: {requests: {nvidia.com/gpu: "1"}}
  taints: [{key: sku, value: gpu, effect: NoSchedule}]
`
	nodeClaimAlone = `
apiVersion: karpenter.sh/v1
kind: NodeClaim
metadata:
  name: claim1
  labels: {team: green}
spec:
  nodeClassRef: {group: kaito.sh, kind: KaitoNodeClass, name: default}
  expireAfter: Never
  requirements:
  - {key: node.kubernetes.io/instance-type, operator: In, values: [Standard_NC24ads_A100_v4]}
  - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
  resources: {requests: {nvidia.com/gpu: "1"}}
`
)

func TestTheGPUProvisionerAloneMakesNodes(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{stack.GPUProvisioner}})
	for _, text := range []string{machineAlone, nodeClaimAlone} {
		claim := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(text), &claim.Object))
		require.NoError(t, s.Client.Create(t.Context(), claim))
	}
	for team, size := range map[string]string{"blue": "Standard_NC6s_v3", "green": "Standard_NC24ads_A100_v4"} {
		nodes := &corev1.NodeList{}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, s.Health())
			require.NoError(c, s.Client.List(t.Context(), nodes, client.MatchingLabels{"team": team}))
			require.Len(c, nodes.Items, 1, "the claim's labels are on its node")
			assert.Equal(c, "true", nodes.Items[0].Labels["karpenter.sh/initialized"])
		}, stacktest.Journey, eventually.StoryTick)
		assert.Equal(t, size, nodes.Items[0].Labels[corev1.LabelInstanceTypeStable])
		assert.Equal(t, "1", nodes.Items[0].Status.Allocatable.Name(kaitov1alpha1.ResourceNvidiaGPU, "").String())
	}
	machine := &karpenterv1alpha5.Machine{ObjectMeta: metav1.ObjectMeta{Name: "machine1"}}
	eventuallyGet(t, s, machine, func(c *assert.CollectT) {
		if condition := machine.GetCondition(karpenterv1alpha5.ConditionReady); assert.NotNil(c, condition) {
			assert.Equal(c, corev1.ConditionTrue, condition.Status)
		}
	})
	drains(t, s, machine)
	claim := &unstructured.Unstructured{}
	claim.SetAPIVersion("karpenter.sh/v1")
	claim.SetKind("NodeClaim")
	claim.SetName("claim1")
	require.NoError(t, s.Client.Delete(t.Context(), claim))
	stacktest.NothingLeft(t, s)
}

// drains deletes a Machine whose Node has a pod with a disruption budget. The pod blocks the drain, and an event says
// so. Without the budget the pod is evicted, and the Node is deleted.
func drains(t *testing.T, s *stack.Stack, machine *karpenterv1alpha5.Machine) {
	t.Helper()
	mine := map[string]string{"app": "somebodys"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "somebodys", Namespace: stacktest.Namespace, Labels: mine},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"team": "blue"},
			Tolerations:  []corev1.Toleration{{Key: "sku", Operator: corev1.TolerationOpExists}},
			Containers:   []corev1.Container{{Name: "main", Image: "example.com/somebodys"}},
		},
	}
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "somebodys", Namespace: stacktest.Namespace},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr.To(intstr.FromInt32(1)),
			Selector:     &metav1.LabelSelector{MatchLabels: mine},
		},
	}
	require.NoError(t, s.Client.Create(t.Context(), budget))
	require.NoError(t, s.Client.Create(t.Context(), pod))
	eventuallyGet(t, s, pod, func(c *assert.CollectT) { assert.Equal(c, corev1.PodRunning, pod.Status.Phase) })
	eventuallyGet(t, s, budget, func(c *assert.CollectT) { assert.EqualValues(c, 1, budget.Status.CurrentHealthy) })

	require.NoError(t, s.Client.Delete(t.Context(), machine))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		told := slices.ContainsFunc(objects(t, s, "v1", "Event"), func(e unstructured.Unstructured) bool {
			message, _, _ := unstructured.NestedString(e.Object, "message")
			reason, _, _ := unstructured.NestedString(e.Object, "reason")
			return reason == "FailedDraining" && strings.Contains(message, "PDB") && strings.Contains(message, pod.Name)
		})
		assert.True(c, told, "an event names the pod and says that its budget keeps it")
	}, stacktest.Journey, eventually.StoryTick)
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	assert.Nil(t, pod.DeletionTimestamp, "a pod under a budget")
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(machine), machine))

	require.NoError(t, s.Client.Delete(t.Context(), budget))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, o := range []client.Object{pod, machine} {
			assert.True(
				c, apierrors.IsNotFound(s.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o)), "%T %s is there", o,
				o.GetName(),
			)
		}
	}, stacktest.Journey, eventually.StoryTick)
}

func TestTheTuningOperatorAloneTunesOnANodeThatIsThere(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{stack.TuningOperator}, WithoutKarpenterCRDs: true})
	bringNode(t, s, "mine", "Standard_NC6s_v3", 1, map[string]string{"team": "blue"})
	stacktest.CreatePushSecret(t, s)
	job := tuningJob(s)
	require.NoError(t, s.Client.Create(t.Context(), job))
	eventuallyGet(t, s, job, func(c *assert.CollectT) {
		assert.True(
			c, meta.IsStatusConditionTrue(job.Status.Conditions, tuningv1alpha1.ConditionSucceeded), "%+v", job.Status,
		)
	})
	require.NotNil(t, job.Status.Output)
	assert.Contains(t, job.Status.Output.Image, s.RegistryHost()+"/tuned/alone")
	assert.Contains(t, job.Status.Output.Image, "@"+job.Status.Output.Digest)
	pods := &corev1.PodList{}
	require.NoError(t, s.Client.List(t.Context(), pods, client.InNamespace(stacktest.Namespace)))
	require.Len(t, pods.Items, 1)
	assert.Equal(t, "mine", pods.Items[0].Spec.NodeName)
}

func TestWorkspaceOperatorAloneServesOnExistingNodes(t *testing.T) {
	t.Parallel()
	s := startStack(t, stack.Options{Operators: []stack.Operator{stack.WorkspaceOperator}, WithoutKarpenterCRDs: true})
	bringNode(t, s, "labelled", "Standard_NC24ads_A100_v4", 1, map[string]string{"app": "by-label"})
	bringNode(t, s, "named", "Standard_NC24ads_A100_v4", 1, nil)

	byLabel := inference("by-label")
	byName := inference("by-name")
	byName.Resource.LabelSelector, byName.Resource.PreferredNodes = nil, []string{"named"}
	byName.Resource.Provisioning = kaitov1alpha1.ProvisioningNever
	for _, w := range []*kaitov1alpha1.Workspace{byLabel, byName} {
		require.NoError(t, s.Client.Create(t.Context(), w))
	}
	for node, w := range map[string]*kaitov1alpha1.Workspace{"labelled": byLabel, "named": byName} {
		got := stacktest.EventuallyWorkspace(t, s, w.Name, stacktest.Ready)
		assert.Equal(t, []string{node}, got.Status.WorkerNodes)
		pods := &corev1.PodList{}
		require.NoError(t, s.Client.List(t.Context(), pods, client.MatchingLabels{kaitov1alpha1.LabelWorkspaceName: w.Name}))
		require.Len(t, pods.Items, 1)
		assert.Equal(t, node, pods.Items[0].Spec.NodeName)
		stacktest.Delete(t, s, w)
	}
	stacktest.NothingLeft(t, s, "Node /labelled", "Node /named")
}
