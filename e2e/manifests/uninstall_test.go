// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// made are objects of users, one of each operator's kinds, and of a kind that Karpenter may have brought.
const made = `
- {apiVersion: kaito.sh/v1alpha1, kind: Workspace, metadata: {name: kept, namespace: default},
   resource: {labelSelector: {matchLabels: {app: kept}}}, inference: {preset: {name: phi-4-mini-instruct}}}
- {apiVersion: tuning.kaito.sh/v1alpha1, kind: TuningJob, metadata: {name: kept, namespace: default},
   spec: {model: {preset: phi-3-mini-128k-instruct}, method: qlora, input: {urls: ["https://example.com/train.parquet"]}, output: {image: registry.example.com/tuned:1, imagePushSecret: push}}}
- {apiVersion: karpenter.sh/v1alpha5, kind: Machine, metadata: {name: kept},
   spec: {requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [Standard_NC6s_v3]}]}}
- {apiVersion: karpenter.sh/v1, kind: NodeClaim, metadata: {name: kept}, spec: {nodeClassRef: {group: kaito.sh, kind: KaitoNodeClass, name: default},
   requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [Standard_NC6s_v3]}]}}
`

// TestUninstallingKeepsEverybodysObjects catches definitions that go with an operator, and take every Workspace and
// every node along: by the documented way, and by the natural one that forgets the selector.
func TestUninstallingKeepsEverybodysObjects(t *testing.T) {
	root := stacktest.Root(t)
	c := cluster.ForTest(t, cluster.Options{ControllerManager: true}) // which deletes what is in a namespace
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, apiextensionsv1.AddToScheme(scheme))
	api, err := client.New(c.Config(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	binary, err := cluster.Binary("kubectl")
	require.NoError(t, err)
	kubectl := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), binary, append([]string{"--kubeconfig=" + c.Kubeconfig()}, args...)...).
			CombinedOutput()
		return string(out), err
	}
	everything := filepath.Join(root, "config/all")
	install := func() {
		t.Helper()
		require.EventuallyWithT(t, func(ct *assert.CollectT) { // a namespace of the name may be going still
			out, err := kubectl("apply", "--server-side", "-k", everything)
			require.NoError(ct, err, out)
		}, eventually.Long, eventually.StoryTick)
	}
	install()
	var objects []*unstructured.Unstructured
	var texts []map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(made), &texts))
	kept := map[string]types.UID{}
	for _, text := range texts {
		u := &unstructured.Unstructured{Object: text}
		require.NoError(t, api.Create(t.Context(), u), u.GetKind())
		kept[u.GetKind()] = u.GetUID()
		objects = append(objects, u)
	}
	stillThere := func() {
		t.Helper()
		for _, u := range objects {
			require.NoError(t, api.Get(t.Context(), client.ObjectKeyFromObject(u), u))
			assert.Equal(t, kept[u.GetKind()], u.GetUID(), u.GetKind())
			assert.Nil(t, u.GetDeletionTimestamp(), u.GetKind())
		}
	}
	gone := func() {
		t.Helper()
		for _, u := range build(t, root, "config/all") {
			if u.GetLabels()["kaito.sh/uninstall"] == "keep" {
				continue
			}
			require.EventuallyWithT(t, func(ct *assert.CollectT) {
				err := api.Get(t.Context(), client.ObjectKeyFromObject(u), u.DeepCopy())
				assert.True(ct, apierrors.IsNotFound(err), "%s %s: %v", u.GetKind(), u.GetName(), err)
			}, eventually.Long, eventually.StoryTick)
		}
	}

	out, err := kubectl("delete", "-k", everything, "-l", "kaito.sh/uninstall!=keep")
	require.NoError(t, err, out)
	gone()
	stillThere()
	install()
	stillThere()

	// Without the selector: everything else goes, and kubectl says why the definitions do not.
	out, err = kubectl("delete", "-k", everything)
	require.Error(t, err, out)
	assert.Contains(t, out, "the definition workspaces.kaito.sh is not deleted with an operator")
	assert.Contains(t, out, "the definition nodeclaims.karpenter.sh is not deleted with an operator")
	gone()
	stillThere()
	install()
	stillThere()

	// On purpose, as the message says.
	out, err = kubectl("label", "crd", "workspaces.kaito.sh", "kaito.sh/uninstall-")
	require.NoError(t, err, out)
	require.NoError(
		t,
		api.Delete(
			t.Context(), &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "workspaces.kaito.sh"}},
		),
	)

	// A namespace of users' objects stays, too.
	var namespaces []string
	for _, u := range build(t, root, "workspace-operator/config/overlays/namespaced") {
		if u.GetKind() == "Namespace" {
			namespaces = append(namespaces, u.GetName()+" "+u.GetLabels()["kaito.sh/uninstall"])
		}
	}
	assert.Equal(t, []string{"kaito keep"}, namespaces)
}
