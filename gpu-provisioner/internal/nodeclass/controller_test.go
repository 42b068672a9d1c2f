// SPDX-License-Identifier: Apache-2.0

package nodeclass

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/pool"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/conditions"
)

func TestReady(t *testing.T) {
	for name, tc := range map[string]struct {
		spec nodeclassv1alpha1.KaitoNodeClassSpec
		want string
	}{
		"valid":                            {nodeclassv1alpha1.KaitoNodeClassSpec{Tags: map[string]string{"team": "ml"}}, ""},
		"tag with a character not allowed": {nodeclassv1alpha1.KaitoNodeClassSpec{Tags: map[string]string{"a/b": "c"}}, `"a/b"`},
		"tag value too long":               {nodeclassv1alpha1.KaitoNodeClassSpec{Tags: map[string]string{"a": strings.Repeat("x", 257)}}, "257"},
		"spot price with a reservation":    {nodeclassv1alpha1.KaitoNodeClassSpec{SpotMaxPrice: "1", CapacityReservationGroupID: "/x"}, "exclude each other"},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			require.NoError(t, nodeclassv1alpha1.AddToScheme(scheme))
			class := &nodeclassv1alpha1.KaitoNodeClass{
				ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: 3},
				Spec:       tc.spec,
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(class).WithStatusSubresource(class).Build()
			claim := &karpv1.NodeClaim{Spec: karpv1.NodeClaimSpec{NodeClassRef: &karpv1.NodeClassReference{Name: "default"}}}
			_, err := pool.Classes{Client: c}.Of(t.Context(), claim)
			var notReady *pool.ClassError
			require.ErrorAs(t, err, &notReady, "not reconciled yet")

			_, err = New(Config{Client: c}).Reconcile(
				t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(class)},
			)
			require.NoError(t, err)
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(class), class))
			ready := conditions.Get(class, conditions.Ready)
			require.NotNil(t, ready)
			assert.Equal(t, int64(3), ready.ObservedGeneration)
			_, err = pool.Classes{Client: c}.Of(t.Context(), claim)
			if tc.want == "" {
				assert.Equal(t, metav1.ConditionTrue, ready.Status)
				assert.NoError(t, err)
				return
			}
			assert.Equal(t, metav1.ConditionFalse, ready.Status)
			assert.Contains(t, ready.Message, tc.want)
			require.ErrorAs(t, err, &notReady)
			assert.Contains(t, err.Error(), tc.want, "the claim has the message")
		})
	}
}

func TestMissingClassIsNamed(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, nodeclassv1alpha1.AddToScheme(scheme))
	claim := &karpv1.NodeClaim{Spec: karpv1.NodeClaimSpec{NodeClassRef: &karpv1.NodeClassReference{Name: "nowhere"}}}
	_, err := pool.Classes{Client: fake.NewClientBuilder().WithScheme(scheme).Build()}.Of(t.Context(), claim)
	require.Error(t, err)
	assert.Contains(t, err.Error(), `"nowhere" does not exist`)
}
