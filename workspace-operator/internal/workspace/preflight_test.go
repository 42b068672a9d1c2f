// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/eventually"
)

func quotaOf(namespace string, hard corev1.ResourceList) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "quota", Namespace: namespace},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard},
	}
}

// counted waits until the quota's controller has counted: a quota without a status refuses nothing yet.
func counted(t *testing.T, q *corev1.ResourceQuota) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(q), q))
		assert.Len(c, q.Status.Hard, len(q.Spec.Hard))
	}, eventually.Long, eventually.Tick)
}

func TestARefusedPodRentsNoNode(t *testing.T) {
	start(t, options())
	for _, test := range []struct {
		name   string
		hard   corev1.ResourceList
		labels map[string]string
		reason string
		says   []string
	}{
		{
			name:   "a quota of no pods",
			hard:   corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")},
			reason: kaitov1alpha1.ReasonQuotaDenied, says: []string{"exceeded quota: quota", "pods=1", "No node has been rented"},
		},
		{
			name:   "a quota of no GPUs",
			hard:   corev1.ResourceList{"requests.nvidia.com/gpu": resource.MustParse("0")},
			reason: kaitov1alpha1.ReasonQuotaDenied, says: []string{"exceeded quota: quota", "requests.nvidia.com/gpu"},
		},
		{
			name:   "a quota of no Deployments",
			hard:   corev1.ResourceList{"count/deployments.apps": resource.MustParse("0")},
			reason: kaitov1alpha1.ReasonQuotaDenied, says: []string{"refuses the Deployment", "count/deployments.apps"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := newNamespace(t)
			quota := quotaOf(namespace, test.hard)
			create(t, quota)
			counted(t, quota)
			w := inferenceWorkspace(namespace, "model")
			create(t, w)
			got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
				hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, test.reason)
			})
			for _, says := range test.says {
				assert.Contains(t, conditions.Get(got, conditions.Stalled).Message, says)
			}
			assert.Empty(t, machinesOf(t, w))
			require.NoError(t, shared.client.Delete(t.Context(), quota))
			eventuallyMachines(t, w, 1)
		})
	}
}

func TestAPodThatPodSecurityRefusesRentsNoNode(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	ns := &corev1.Namespace{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKey{Name: namespace}, ns))
	before := ns.DeepCopy()
	ns.Labels["pod-security.kubernetes.io/enforce"] = "baseline"
	require.NoError(t, shared.client.Patch(t.Context(), ns, client.MergeFrom(before)))
	w := inferenceWorkspace(namespace, "model")
	template := ownTemplate()
	template.Spec.HostNetwork = true
	w.Inference = &kaitov1alpha1.InferenceSpec{Template: embedded.NewPodTemplate(template)}
	create(t, w)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonPodRefused)
	})
	assert.Contains(t, conditions.Get(got, conditions.Stalled).Message, `violates PodSecurity "baseline`)
	assert.Empty(t, machinesOf(t, w))
	// What the operator makes itself is admitted there.
	preset := inferenceWorkspace(namespace, "preset")
	create(t, preset)
	eventuallyMachines(t, preset, 1)
}

func ownTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/own:1"}}},
	}
}

func TestAnInvalidTemplateRentsNoNode(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	template := ownTemplate()
	template.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 70000}}
	w.Inference = &kaitov1alpha1.InferenceSpec{Template: embedded.NewPodTemplate(template)}
	create(t, w)
	got := eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidSpec)
	})
	assert.Contains(t, conditions.Get(got, conditions.Stalled).Message, "containerPort")
	assert.Empty(t, machinesOf(t, w))
}

func TestThePodsOfAPreflightCannotBeMade(t *testing.T) {
	namespace := newNamespace(t)
	operatorClient, err := client.New(shared.config, client.Options{Scheme: shared.client.Scheme()})
	require.NoError(t, err)
	pod := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "planted-", Namespace: namespace},
			Spec:       ownTemplate().Spec,
		}
	}
	// The API server compiles a policy in the background; until then it does not hold.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.ErrorContains(c, operatorClient.Create(t.Context(), pod()), "may only ask whether a pod would be admitted")
	}, eventually.Long, eventually.Tick)
	assert.NoError(t, operatorClient.Create(t.Context(), pod(), client.DryRunAll))
	list := &appsv1.DeploymentList{}
	require.NoError(t, shared.client.List(t.Context(), list, client.InNamespace(namespace)))
	assert.Empty(t, list.Items)
}
