// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"maps"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"kaito.sh/e2e/rights"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
)

// rightsOf are what the operators' own roles of a kind allow, apart from those that users gain and the lease.
func rightsOf(t *testing.T, objects []*unstructured.Unstructured, kind string) map[rights.Right]bool {
	t.Helper()
	out, err := rights.Of(objects, kind)
	require.NoError(t, err)
	maps.DeleteFunc(out, func(r rights.Right, _ bool) bool { return r.Resource == "leases" })
	return out
}

// TestNamespacedRolesHaveTheRightsOfTheClusterRoles catches a rule that was added to an operator's markers
// and not to its Role, one that the Role has and no code needs, and one in a ClusterRole that a Role could have.
func TestNamespacedRolesHaveTheRightsOfTheClusterRoles(t *testing.T) {
	root := stacktest.Root(t)
	c := cluster.ForTest(
		t,
		cluster.Options{
			CRDPaths: []string{
				filepath.Join(root, "shared/api/crds"),
				filepath.Join(root, "gpu-provisioner/config/karpenter-crds"),
				filepath.Join(root, "workspace-operator/internal/workspace/testdata/inferencepool.yaml"),
			},
		},
	)
	namespaced := namespacedResources(t, c)
	for _, o := range []stack.Operator{stack.WorkspaceOperator, stack.TuningOperator} {
		t.Run(string(o), func(t *testing.T) {
			want := rightsOf(t, build(t, root, string(o)+"/config/default"), "ClusterRole")
			overlay := build(t, root, string(o)+"/config/overlays/namespaced")
			inNamespace, inCluster := rightsOf(t, overlay, "Role"), rightsOf(t, overlay, "ClusterRole")
			for r := range want {
				assert.NotEqual(t, inNamespace[r], inCluster[r], "%v must be in one of the two roles", r)
			}
			for r := range inNamespace {
				assert.True(t, want[r], "the Role has %v, and config/rbac/role.yaml has not", r)
				assert.True(t, namespaced[r.Kind()], "%v is in no namespace: a Role cannot give it", r)
			}
			for r := range inCluster {
				assert.True(t, want[r], "the ClusterRole has %v, and config/rbac/role.yaml has not", r)
				assert.False(t, namespaced[r.Kind()], "%v is in a namespace: the Role must give it", r)
			}
		})
	}
}

// namespacedResources are those in namespaces, as group/resource.
func namespacedResources(t *testing.T, c *cluster.Cluster) map[string]bool {
	t.Helper()
	api, err := discovery.NewDiscoveryClientForConfig(c.Config())
	require.NoError(t, err)
	_, lists, err := api.ServerGroupsAndResources()
	require.NoError(t, err)
	out := map[string]bool{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, resource := range list.APIResources {
			out[version.Group+"/"+resource.Name] = resource.Namespaced
		}
	}
	return out
}

// TestWhoBringsNodesGivesNoRightToAskForAny catches an overlay that leaves the workspace-operator a right on claims of
// nodes.
func TestWhoBringsNodesGivesNoRightToAskForAny(t *testing.T) {
	root := stacktest.Root(t)
	all := rightsOf(t, build(t, root, "workspace-operator/config/default"), "ClusterRole")
	kept := rightsOf(t, build(t, root, "workspace-operator/config/overlays/byo"), "ClusterRole")
	for r := range all {
		assert.Equal(t, r.Resource != "machines" && r.Resource != "nodeclaims", kept[r], "%v", r)
	}
	assert.NotEmpty(t, kept)
}

// TestNoOperatorReadsSecrets: what needs one mounts it by name.
func TestNoOperatorReadsSecrets(t *testing.T) {
	root := stacktest.Root(t)
	for _, folder := range kustomizations(t, root) {
		objects := build(t, root, folder)
		for _, kind := range []string{"Role", "ClusterRole"} {
			for r := range rightsOf(t, objects, kind) {
				if r.Group != "" && r.Group != "*" || r.Resource != "secrets" && r.Resource != "*" {
					continue
				}
				assert.Contains(
					t, []string{"create", "dryrun"}, r.Verb, "%s: a %s lets an operator %s Secrets", folder, kind, r.Verb,
				) // see docs/adr/0004
			}
		}
	}
}
