// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/eventually"
)

// malformed creates an object from YAML that the API server accepts and Go's types do not.
func malformed(t *testing.T, kind schema.GroupVersionKind, namespace, name, text string) client.ObjectKey {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &u.Object))
	u.SetGroupVersionKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	require.NoError(t, shared.client.Create(t.Context(), u))
	return client.ObjectKeyFromObject(u)
}

var (
	workspaceKind = schema.GroupVersionKind{Group: "kaito.sh", Version: "v1alpha1", Kind: "Workspace"}
	tuningJobKind = schema.GroupVersionKind{Group: "tuning.kaito.sh", Version: "v1alpha1", Kind: "TuningJob"}
)

// Informers decode whole lists: before templates and volume sources were kept as JSON, one of these objects hid all
// others.
func TestMalformedObjectsStopNoOther(t *testing.T) {
	blue, green := newNamespace(t), newNamespace(t)
	healthy := inferenceWorkspace(blue, "healthy")
	create(t, healthy)
	operator := start(t, options())
	eventuallyMachines(t, healthy, 1)

	poisoned := map[client.ObjectKey]string{
		malformed(t, workspaceKind, green, "template", `{inference: {template: {spec: {containers: none}}}, resource: {instanceType: Standard_NC24ads_A100_v4}}`):                                                     "inference.template.spec.containers: invalid value",
		malformed(t, workspaceKind, green, "quantity", `{inference: {template: {spec: {containers: [{name: a, image: b, resources: {limits: {cpu: 1e1.5}}}]}}}, resource: {instanceType: Standard_NC24ads_A100_v4}}`): "inference.template.spec.containers[0].resources.limits.cpu: invalid value",
		malformed(t, workspaceKind, green, "adapter", `{inference: {preset: {name: phi-4-mini-instruct}, adapters: [{source: {name: a, volumeSource: {persistentVolumeClaim: x}}}]}}`):                                "inference.adapters[0].source.volumeSource.persistentVolumeClaim: invalid value",
		malformed(t, workspaceKind, green, "input", `{tuning: {preset: {name: phi-4-mini-instruct}, input: {volumeSource: {hostPath: []}}, output: {image: r/i}}}`):                                                   "tuning.input.volumeSource.hostPath: invalid value",
		malformed(t, workspaceKind, green, "output", `{tuning: {preset: {name: phi-4-mini-instruct}, input: {dataset: a/b}, output: {volumeSource: {emptyDir: {sizeLimit: many}}}}}`):                                 "tuning.output.volumeSource.emptyDir.sizeLimit: invalid value",
	}
	malformed(
		t,
		tuningJobKind,
		green,
		"job",
		`{spec: {model: {preset: phi-4-mini-instruct}, method: lora, input: {volumeSource: {persistentVolumeClaim: x}}, output: {image: r/i}}}`,
	)

	areStalled := func() {
		for key, want := range poisoned {
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				w := &kaitov1alpha1.Workspace{}
				require.NoError(c, shared.client.Get(t.Context(), key, w))
				hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidSpec)
				if stalled := meta.FindStatusCondition(w.Status.Conditions, kaitov1alpha1.ConditionStalled); stalled != nil {
					assert.Contains(c, stalled.Message, want)
				}
				assert.Empty(c, machinesOf(c, w), "nothing is rented")
			}, eventually.Long, eventually.Tick)
		}
	}
	areStalled()
	second := inferenceWorkspace(blue, "second")
	create(t, second)
	eventuallyMachines(t, second, 1)
	released(t, healthy)

	operator.stop()
	start(t, options())
	areStalled()
	third := inferenceWorkspace(blue, "third")
	create(t, third)
	eventuallyMachines(t, third, 1)
	for _, w := range []*kaitov1alpha1.Workspace{second, third} {
		released(t, w)
	}
	for key := range poisoned {
		released(t, &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
	}
}

func TestAMalformedTemplateIsServedOnceCorrected(t *testing.T) {
	start(t, options())
	namespace := newNamespace(t)
	key := malformed(
		t,
		workspaceKind,
		namespace,
		"mine",
		`{inference: {template: {spec: {containers: none}}}, resource: {instanceType: Standard_NC24ads_A100_v4}}`,
	)
	w := &kaitov1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "mine"}}
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidSpec)
	})
	require.NoError(t, shared.client.Get(t.Context(), key, w))
	patch := client.RawPatch(
		"application/merge-patch+json",
		[]byte(`{"inference":{"template":{"spec":{"containers":[{"name":"a","image":"example.com/a:1"}]}}}}`),
	)
	require.NoError(t, shared.client.Patch(t.Context(), w, patch))
	eventuallyMachines(t, w, 1)
}

// released deletes a Workspace and waits until it and its Machines are gone.
func released(t *testing.T, w *kaitov1alpha1.Workspace) {
	t.Helper()
	require.NoError(t, shared.client.Delete(t.Context(), w))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.True(
			c, apierrors.IsNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), &kaitov1alpha1.Workspace{})),
		)
		assert.Empty(c, machinesOf(c, w))
	}, eventually.Long, eventually.Tick)
}
