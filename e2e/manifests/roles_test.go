// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// TestUsersGainOurKindsByTheClustersOwnRoles catches a user with the right to edit a namespace who can't make a
// Workspace in it, one who may only view and can, and kinds of the whole cluster that a namespace's user could write.
func TestUsersGainOurKindsByTheClustersOwnRoles(t *testing.T) {
	root := stacktest.Root(t)
	c := cluster.ForTest(t, cluster.Options{ControllerManager: true}) // which aggregates roles
	api, err := client.New(c.Config(), client.Options{Scheme: clientgoscheme.Scheme})
	require.NoError(t, err)
	apply(t, api, build(t, root, "config/all"))
	for _, role := range []string{"view", "edit", "admin"} {
		require.NoError(t, api.Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role, Namespace: "default"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: role}},
		}))
	}
	require.NoError(t, api.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "admin"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "everywhere"}},
	}))
	may := func(ct require.TestingT, user, verb, namespace, group, resource, subresource string) bool {
		review := &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource,
			}},
		}
		require.NoError(ct, api.Create(t.Context(), review))
		return review.Status.Allowed
	}
	everyone := []string{"view", "edit", "admin", "everywhere"}
	for _, kind := range []struct {
		group, resource, namespace string
		readers, writers           []string
	}{
		{"kaito.sh", "workspaces", "default", everyone, everyone[1:]},
		{"kaito.sh", "gpubudgets", "default", everyone, everyone[2:]},
		{"tuning.kaito.sh", "tuningjobs", "default", everyone, everyone[1:]},
		// In no namespace: who is bound in one gains nothing.
		{"karpenter.sh", "machines", "", everyone[3:], everyone[3:]},
		{"kaito.sh", "kaitonodeclasses", "", everyone[3:], everyone[3:]},
	} {
		require.EventuallyWithT(t, func(ct *assert.CollectT) { // the controller manager takes a moment
			for _, user := range everyone {
				assert.Equal(
					ct, slices.Contains(kind.readers, user), may(ct, user, "watch", kind.namespace, kind.group, kind.resource, ""),
					"%s watches %s", user, kind.resource,
				)
				for _, verb := range []string{"create", "patch", "delete"} {
					assert.Equal(
						ct, slices.Contains(kind.writers, user), may(ct, user, verb, kind.namespace, kind.group, kind.resource, ""),
						"%s: %s %s", user, verb, kind.resource,
					)
				}
				assert.False(
					ct, may(ct, user, "update", kind.namespace, kind.group, kind.resource, "status"), "%s writes the status of %s",
					user, kind.resource,
				)
			}
		}, eventually.Short, eventually.StoryTick)
	}
}
