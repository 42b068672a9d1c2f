package manifests_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
)

// right is one verb of one rule.
type right struct{ group, resource, verb string }

// kind is the resource without its subresource, which discovery need not know.
func (r right) kind() string {
	resource, _, _ := strings.Cut(r.resource, "/")
	return r.group + "/" + resource
}

// rights are what the operator's own roles of a kind allow, apart from those that users gain.
func rights(t *testing.T, objects []*unstructured.Unstructured, kind string) map[right]bool {
	t.Helper()
	out := map[right]bool{}
	for _, u := range objects {
		if u.GetKind() != kind || !bound(t, objects, kind, u.GetName()) {
			continue
		}
		role := &rbacv1.ClusterRole{} // a Role's rules are alike
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, role))
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						out[right{group, resource, verb}] = true
					}
				}
			}
		}
	}
	return out
}

// bound says whether a role is given to anybody; leases are not of interest.
func bound(t *testing.T, objects []*unstructured.Unstructured, kind, name string) bool {
	t.Helper()
	return slices.ContainsFunc(objects, func(u *unstructured.Unstructured) bool {
		ref, _, err := unstructured.NestedStringMap(u.Object, "roleRef")
		require.NoError(t, err)
		return ref["kind"] == kind && ref["name"] == name && name != "" && !isLease(name)
	})
}

func isLease(name string) bool {
	for _, o := range stack.Operators {
		if name == string(o)+"-leader-election-role" {
			return true
		}
	}
	return false
}

// TestNamespacedModeHasTheRightsOfTheWholeClusterInOneNamespace catches a rule that was added to an operator's markers and not to its Role,
// one that the Role has and nobody needs, and one in a ClusterRole that a Role could have.
func TestNamespacedModeHasTheRightsOfTheWholeClusterInOneNamespace(t *testing.T) {
	root := stacktest.Root(t)
	c := cluster.ForTest(t, cluster.Options{CRDPaths: []string{filepath.Join(root, "shared/api/crds"), filepath.Join(root, "gpu-provisioner/config/karpenter-crds")}})
	namespaced := namespacedResources(t, c)
	for _, o := range []stack.Operator{stack.WorkspaceOperator, stack.TuningOperator} {
		t.Run(string(o), func(t *testing.T) {
			want := rights(t, build(t, root, string(o)+"/config/default"), "ClusterRole")
			overlay := build(t, root, string(o)+"/config/overlays/namespaced")
			inNamespace, inCluster := rights(t, overlay, "Role"), rights(t, overlay, "ClusterRole")
			for r := range want {
				assert.NotEqual(t, inNamespace[r], inCluster[r], "%v must be in one of the two roles", r)
			}
			for r := range inNamespace {
				assert.True(t, want[r], "the Role has %v, and config/rbac/role.yaml has not", r)
				assert.True(t, namespaced[r.kind()], "%v is in no namespace: a Role cannot give it", r)
			}
			for r := range inCluster {
				assert.True(t, want[r], "the ClusterRole has %v, and config/rbac/role.yaml has not", r)
				assert.False(t, namespaced[r.kind()], "%v is in a namespace: the Role must give it", r)
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

// TestWhoBringsNodesGivesNoRightToAskForAny catches an overlay that leaves the workspace-operator a right on claims of nodes.
func TestWhoBringsNodesGivesNoRightToAskForAny(t *testing.T) {
	root := stacktest.Root(t)
	all := rights(t, build(t, root, "workspace-operator/config/default"), "ClusterRole")
	kept := rights(t, build(t, root, "workspace-operator/config/overlays/byo"), "ClusterRole")
	for r := range all {
		assert.Equal(t, r.resource != "machines" && r.resource != "nodeclaims", kept[r], "%v", r)
	}
	assert.NotEmpty(t, kept)
}

// TestNoOperatorReadsSecrets: what needs one mounts it by name.
func TestNoOperatorReadsSecrets(t *testing.T) {
	root := stacktest.Root(t)
	for _, folder := range kustomizations(t, root) {
		objects := build(t, root, folder)
		for _, kind := range []string{"Role", "ClusterRole"} {
			for r := range rights(t, objects, kind) {
				if r.group != "" && r.group != "*" || r.resource != "secrets" && r.resource != "*" {
					continue
				}
				assert.Equal(t, "create", r.verb, "%s: a %s lets an operator %s Secrets", folder, kind, r.verb)
			}
		}
	}
}
