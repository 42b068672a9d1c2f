// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/eventually"
)

func TestAuditLogCountsCalls(t *testing.T) {
	namespace := newNamespace(t)
	_, err := shared.client.CoreV1().ServiceAccounts(namespace).Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "counted"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = shared.client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "counted"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "counted"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	config, err := shared.ServiceAccountConfig(t.Context(), namespace, "counted")
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	maps := client.CoreV1().ConfigMaps(namespace)
	require.EventuallyWithT(t, func(c *assert.CollectT) { // until the API server has seen the binding
		_, err := maps.List(t.Context(), metav1.ListOptions{})
		assert.NoError(c, err)
	}, eventually.Short, eventually.Tick)

	log := audit.Open(shared.AuditLog())
	mark, err := log.Mark()
	require.NoError(t, err)
	for _, name := range []string{"a", "b", "c"} {
		_, err := maps.Create(
			t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{},
		)
		require.NoError(t, err)
	}
	_, err = maps.Get(t.Context(), "a", metav1.GetOptions{})
	require.NoError(t, err)
	watch, err := maps.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	watch.Stop()
	require.NoError(t, maps.Delete(t.Context(), "a", metav1.DeleteOptions{}))
	_, err = client.CoreV1().
		Nodes().
		Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	require.Error(t, err, "no role lets this account make nodes")

	user := "system:serviceaccount:" + namespace + ":counted"
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		requests, err := log.Requests(mark, audit.ServiceAccount(namespace, "counted"))
		require.NoError(c, err)
		assert.Equal(c, map[audit.Kind]int{
			{User: user, Verb: "create", Resource: "configmaps"}: 3,
			{User: user, Verb: "get", Resource: "configmaps"}:    1,
			{User: user, Verb: "watch", Resource: "configmaps"}:  1,
			{User: user, Verb: "delete", Resource: "configmaps"}: 1,
			{User: user, Verb: "create", Resource: "nodes"}:      1,
		}, audit.Tally(requests), audit.Table(requests))
	}, eventually.Short, eventually.Tick)
	writes, err := log.Writes(mark, audit.ServiceAccount(namespace, "counted"))
	require.NoError(t, err)
	assert.Len(t, writes, 5, "a refused write is a write too:\n%s", audit.Table(writes))
}
