// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/workspace-operator/internal/serving"
)

func TestInferencePoolFollowsItsCRDAndTheAnnotation(t *testing.T) {
	raw, err := os.ReadFile("testdata/inferencepool.yaml")
	require.NoError(t, err)
	kind := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.UnmarshalStrict(raw, kind))
	serve := withhold(t, kind)
	t.Cleanup(func() { assert.NoError(t, shared.client.Delete(context.Background(), kind)) })
	start(t, options())

	w := inferenceWorkspace(newNamespace(t), "model")
	w.Annotations = map[string]string{serving.AnnotationInferencePool: "picker:9002"}
	w = ready(t, w)
	serve()
	pool := &unstructured.Unstructured{}
	pool.SetGroupVersionKind(serving.PoolKind)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), pool))
	}, eventually.Long, eventually.Tick, "no restart is needed when the kind comes")
	spec := pool.Object["spec"].(map[string]any)
	assert.Equal(
		t, map[string]any{"kaito.sh/workspace": "model", "app.kubernetes.io/component": "inference"},
		spec["selector"].(map[string]any)["matchLabels"],
	)
	assert.Equal(t, []any{map[string]any{"number": int64(5000)}}, spec["targetPorts"])
	assert.Equal(t, "picker", spec["endpointPickerRef"].(map[string]any)["name"])
	assert.True(t, metav1.IsControlledBy(pool, w))

	patchWorkspace(t, w, func(w *kaitov1alpha1.Workspace) { delete(w.Annotations, serving.AnnotationInferencePool) })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.True(c, apierrors.IsNotFound(shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), pool)))
	}, eventually.Long, eventually.Tick)
}

func TestAnEndpointPickerIsAServiceWithAPort(t *testing.T) {
	start(t, options())
	w := inferenceWorkspace(newNamespace(t), "model")
	w.Annotations = map[string]string{serving.AnnotationInferencePool: "picker"}
	create(t, w)
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionStalled, metav1.ConditionTrue, kaitov1alpha1.ReasonInvalidSpec)
	})
	assert.Empty(t, machinesOf(t, w), "nothing is rented for it")
}
