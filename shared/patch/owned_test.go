// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"kaito.sh/shared/patch"
)

func TestApplyOwned(t *testing.T) {
	t.Parallel()
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "owner", UID: "1"}}
	service := func() *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "child"}}
	}
	writes := 0
	c := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Apply: func(
			ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption,
		) error {
			writes++
			return c.Apply(ctx, obj, opts...)
		},
	}).Build()

	for _, wrote := range []bool{true, false} {
		got, err := patch.ApplyOwned(t.Context(), c, c, "test", owner, service())
		require.NoError(t, err)
		assert.Equal(t, wrote, got, "an unchanged object costs no request")
	}
	assert.Equal(t, 1, writes)
	created := &corev1.Service{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(service()), created))
	assert.True(t, metav1.IsControlledBy(created, owner))

	other := owner.DeepCopy()
	other.Name, other.UID = "other", "2"
	_, err := patch.ApplyOwned(t.Context(), c, c, "test", other, service())
	var taken *patch.TakenError
	require.ErrorAs(t, err, &taken)
	assert.EqualError(
		t, err,
		"Service default/child exists and has another owner: delete or rename it, or use another name for the object that needs it",
	)
	assert.Equal(t, 1, writes, "an object of another owner stays unchanged")
}
