// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

const mergePatch = types.MergePatchType

func mustJSON(value any) []byte {
	out, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return out
}

func nodeReady(of *corev1.Node) corev1.ConditionStatus {
	for _, condition := range of.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status
		}
	}
	return ""
}

// newNamespace also waits for the default service account, which pods need.
func newNamespace(t *testing.T) string {
	t.Helper()
	made, err := shared.client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, shared.client.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{}))
	})
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := shared.client.CoreV1().ServiceAccounts(made.Name).Get(t.Context(), "default", metav1.GetOptions{})
		assert.NoError(c, err)
	}, eventually.Long, eventually.Tick)
	return made.Name
}

func grantConfigMaps(t *testing.T, namespace, account string) {
	t.Helper()
	_, err := shared.client.RbacV1().Roles(namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = shared.client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// newEngine creates the Deployment and the Service "engine", with the init container "weights" and an optional outcome.
func newEngine(t *testing.T, namespace string, replicas int32, outcome cluster.Outcome) {
	t.Helper()
	labels := map[string]string{"app": "engine"}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "weights", Image: "example.com/weights:1"}},
			Containers: []corev1.Container{
				{Name: "engine", Image: "example.com/engine:1"},
				{Name: "gateway", Image: "example.com/gateway:1"},
			},
		},
	}
	if outcome != nil {
		template.Annotations = map[string]string{cluster.OutcomeAnnotation: outcome.Annotation()}
	}
	_, err := shared.client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "engine"},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(replicas),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: template,
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = shared.client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "engine"},
		Spec: corev1.ServiceSpec{
			Selector: labels,
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(5000)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func waitForAvailable(t *testing.T, namespace string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got, err := shared.client.AppsV1().Deployments(namespace).Get(t.Context(), "engine", metav1.GetOptions{})
		require.NoError(c, err)
		assert.Equal(c, *got.Spec.Replicas, got.Status.AvailableReplicas)
	}, eventually.Long, eventually.Tick)
}

// eventuallyPod waits until the only pod of the namespace that is not being deleted passes the check.
func eventuallyPod(t *testing.T, namespace string, check func(*assert.CollectT, corev1.Pod)) corev1.Pod {
	t.Helper()
	var found corev1.Pod
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		pods, err := shared.client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
		require.Len(c, pods.Items, 1)
		found = pods.Items[0]
		check(c, found)
	}, eventually.Long, eventually.Tick)
	return found
}

func setOutcome(t *testing.T, pod corev1.Pod, outcome cluster.Outcome) {
	t.Helper()
	patch := mustJSON(
		map[string]any{
			"metadata": map[string]any{"annotations": map[string]string{cluster.OutcomeAnnotation: outcome.Annotation()}},
		},
	)
	_, err := shared.client.CoreV1().
		Pods(pod.Namespace).
		Patch(t.Context(), pod.Name, mergePatch, patch, metav1.PatchOptions{})
	require.NoError(t, err)
}

// statusOf returns the status of a container or an init container.
func statusOf(pod corev1.Pod, container string) corev1.ContainerStatus {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if status.Name == container {
			return status
		}
	}
	return corev1.ContainerStatus{}
}

func podReady(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// processesIn returns the command lines of the processes whose working folder is that of the cluster, by ID.
func processesIn(t *testing.T, folder string) map[int]string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	found := map[int]string{}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || (target != folder && target != folder+" (deleted)") {
			continue // ended, or of another user
		}
		process := filepath.Dir(link)
		line, err := os.ReadFile(filepath.Join(process, "cmdline"))
		if err == nil && len(line) > 0 { // a zombie has no command line
			pid, err := strconv.Atoi(filepath.Base(process))
			require.NoError(t, err)
			found[pid] = string(bytes.ReplaceAll(line, []byte{0}, []byte(" ")))
		}
	}
	return found
}
