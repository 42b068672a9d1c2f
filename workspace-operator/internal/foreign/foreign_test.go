// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

type watches struct{ started int }

func (w *watches) Watch(source.Source) error { w.started++; return nil }

func machines(established, served bool) *apiextensionsv1.CustomResourceDefinition {
	status := apiextensionsv1.ConditionFalse
	if established {
		status = apiextensionsv1.ConditionTrue
	}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "machines.karpenter.sh"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1alpha5", Served: served}},
		},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{
			Conditions: []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: status}},
		},
	}
}

func TestKindIsWatchedOnceEachTimeItIsServed(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	require.NoError(t, apiextensionsv1.AddToScheme(scheme))
	require.NoError(t, karpenterv1alpha5.AddToScheme(scheme))
	store := fake.NewClientBuilder().WithScheme(scheme).Build()
	kinds, err := New(
		withReader(scheme, store), scheme,
		Kind{Object: &karpenterv1alpha5.Machine{}, Resource: "machines", Handler: &handler.EnqueueRequestForObject{}},
	)
	require.NoError(t, err)
	w := &watches{}
	kinds.Start(w)
	assert.True(t, kinds.Concerns("machines.karpenter.sh"))
	assert.False(t, kinds.Concerns("nodepools.karpenter.sh"))

	ask := func(want bool, started int, why string) {
		t.Helper()
		got, err := kinds.Served(t.Context(), &karpenterv1alpha5.Machine{})
		require.NoError(t, err)
		assert.Equal(t, want, got, why)
		assert.Equal(t, started, w.started, why)
	}
	ask(false, 0, "the definition is not there")
	crd := machines(false, true)
	require.NoError(t, store.Create(t.Context(), crd))
	ask(false, 0, "it is not established yet")
	crd.Status = machines(true, true).Status
	require.NoError(t, store.Status().Update(t.Context(), crd))
	ask(true, 1, "it is served")
	ask(true, 1, "a second look starts no second watch")
	crd.Spec.Versions[0].Served = false
	require.NoError(t, store.Update(t.Context(), crd))
	ask(false, 1, "another version may be served, this one is not")
	crd.Spec.Versions[0].Served = true
	require.NoError(t, store.Update(t.Context(), crd))
	ask(true, 2, "it is back and needs a new watch")
}

func withReader(scheme *runtime.Scheme, r client.Reader) *readerCache {
	return &readerCache{FakeInformers: &informertest.FakeInformers{Scheme: scheme}, reader: r}
}

// readerCache has fake informers and reads from a store.
type readerCache struct {
	*informertest.FakeInformers
	reader client.Reader
}

func (c *readerCache) Get(
	ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption,
) error {
	return c.reader.Get(ctx, key, obj, opts...)
}
