// SPDX-License-Identifier: Apache-2.0

package suite_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// Guards against a demo that removes objects that it did not create, or that leaves its own, on an existing cluster.
func TestAnExistingClusterIsLeftAsItWas(t *testing.T) {
	stacktest.OwnCluster(t, "it compares all objects of a cluster without other clients")
	stacktest.Parallel(t)
	c, err := cluster.Start(t.Context(), cluster.Options{ControllerManager: true, Scheduler: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Stop()) })
	existing := &stack.Existing{Kubeconfig: c.Kubeconfig()}
	before := everything(t, c.Config())
	asBefore := func(t *testing.T) {
		require.EventuallyWithT(t, func(collect *assert.CollectT) {
			now := everything(t, c.Config())
			assert.Empty(collect, difference(now, before), "left behind")
			assert.Empty(collect, difference(before, now), "taken away")
		}, eventually.Long, eventually.StoryTick)
	}

	t.Run("by a demo that is interrupted while its Workspace is Ready", func(t *testing.T) {
		t.Cleanup(func() { asBefore(t) }) // after the stack is stopped
		s := stacktest.Start(t, stack.Options{Existing: existing})
		stacktest.QuickStart(t, s)
		stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)
	})

	t.Run("by a demo that finds an operator there", func(t *testing.T) {
		clientset, err := kubernetes.NewForConfig(c.Config())
		require.NoError(t, err)
		theirs := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: stack.TuningOperator.Namespace()}}
		_, err = clientset.CoreV1().Namespaces().Create(t.Context(), theirs, metav1.CreateOptions{})
		require.NoError(t, err)
		before = append(before, "namespaces/"+theirs.Name)
		_, err = stack.Start(t.Context(), stack.Options{Root: stacktest.Root(t), Existing: existing})
		var installed *stack.InstalledError
		require.ErrorAs(t, err, &installed)
		assert.Equal(t, []string{"Namespace " + theirs.Name}, installed.Objects)
		asBefore(t)
	})
}

// difference is what is in a and not in b.
func difference(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(one string) bool { return slices.Contains(b, one) })
}

// everything lists all objects of the cluster by kind and name, except those that Kubernetes creates: events, leases,
// and the initial objects of each namespace.
func everything(t *testing.T, config *rest.Config) []string {
	t.Helper()
	config.WarningHandler = rest.NoWarnings{}
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	require.NoError(t, err)
	objects, err := metadata.NewForConfig(config)
	require.NoError(t, err)
	resources, err := discover.ServerPreferredResources()
	require.NoError(t, err)
	var all []string
	for _, group := range resources {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		require.NoError(t, err)
		for _, resource := range group.APIResources {
			if !slices.Contains(resource.Verbs, "list") || resource.Name == "events" || resource.Name == "leases" {
				continue
			}
			list, err := objects.Resource(version.WithResource(resource.Name)).List(context.Background(), metav1.ListOptions{})
			require.NoError(t, err)
			for i := range list.Items {
				all = append(all, filepath.Join(resource.Name, list.Items[i].Namespace, list.Items[i].Name))
			}
		}
	}
	return slices.DeleteFunc(all, func(one string) bool {
		kind, name := filepath.Split(one)
		return strings.HasPrefix(kind, "serviceaccounts/") && name == "default" ||
			strings.HasPrefix(kind, "configmaps/") && name == "kube-root-ca.crt"
	})
}
