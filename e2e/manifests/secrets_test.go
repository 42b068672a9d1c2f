// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// TestARenamedOperatorStillMayNotCreateSecrets catches a policy that knows the operator by a name, which an overlay
// changes.
func TestARenamedOperatorStillMayNotCreateSecrets(t *testing.T) {
	root := stacktest.Root(t)
	for _, folder := range []string{
		"workspace-operator/config/default", "workspace-operator/config/overlays/namespaced", "config/overlays/kaito-compat/workspace-operator",
		"e2e/manifests/testdata/prefixed", "e2e/manifests/testdata/account", "e2e/manifests/testdata/namespaced",
	} {
		t.Run(folder, func(t *testing.T) {
			c := cluster.ForTest(t, cluster.Options{})
			admin, err := client.New(c.Config(), client.Options{Scheme: clientgoscheme.Scheme})
			require.NoError(t, err)
			objects := build(t, root, folder)
			apply(t, admin, objects)
			namespace, account := runsAs(t, objects)
			config, err := c.ServiceAccountConfig(t.Context(), namespace, account)
			require.NoError(t, err)
			operator, err := client.New(config, client.Options{Scheme: clientgoscheme.Scheme})
			require.NoError(t, err)
			secret := func() *corev1.Secret {
				return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "planted-"}}
			}
			require.EventuallyWithT(t, func(ct *assert.CollectT) { // roles and policies hold after a moment
				require.NoError(ct, operator.Create(t.Context(), secret(), client.DryRunAll), "it may ask")
				assert.ErrorContains(ct, operator.Create(t.Context(), secret()), "may only ask whether a Secret exists")
			}, eventually.Long, eventually.StoryTick)
			assert.NoError(t, admin.Create(t.Context(), secret()), "others may create Secrets")
		})
	}
}

// runsAs is the account of the Deployment.
func runsAs(t *testing.T, objects []*unstructured.Unstructured) (namespace, account string) {
	t.Helper()
	for _, u := range objects {
		if u.GetKind() == "Deployment" {
			var d appsv1.Deployment
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d))
			return d.Namespace, d.Spec.Template.Spec.ServiceAccountName
		}
	}
	require.FailNow(t, "there is no Deployment")
	return "", ""
}
