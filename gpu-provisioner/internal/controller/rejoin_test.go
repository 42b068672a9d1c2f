// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

func TestOnlyANodeThatRegistersAgainGetsWhatItHad(t *testing.T) {
	const id = "azure:///m1"
	gpu := corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}
	for name, tc := range map[string]struct {
		claim func(*karpv1.NodeClaim)
		node  func(*corev1.Node)
		gets  bool
	}{
		"a Node that is new though its claim is registered": {gets: true},
		"one that joins for the first time is core's":       {claim: func(c *karpv1.NodeClaim) { c.StatusConditions().SetUnknown(karpv1.ConditionTypeRegistered) }},
		"one that core has registered":                      {node: func(n *corev1.Node) { n.Labels = map[string]string{karpv1.NodeRegisteredLabelKey: "true"} }},
		"one of another machine":                            {node: func(n *corev1.Node) { n.Spec.ProviderID = "azure:///m2" }},
		"one of no machine":                                 {node: func(n *corev1.Node) { n.Spec.ProviderID = "" }, claim: func(c *karpv1.NodeClaim) { c.Status.ProviderID = "" }},
		"one whose claim is being deleted": {claim: func(c *karpv1.NodeClaim) {
			now := metav1.Now()
			c.DeletionTimestamp, c.Finalizers = &now, []string{karpv1.TerminationFinalizer}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			claim := &karpv1.NodeClaim{
				ObjectMeta: metav1.ObjectMeta{Name: "ws1", UID: "u1", Labels: map[string]string{"kaito.sh/workspace": "ws"}},
			}
			claim.Spec.Taints = []corev1.Taint{gpu}
			claim.Status.ProviderID = id
			claim.StatusConditions().SetTrue(karpv1.ConditionTypeRegistered)
			claim.StatusConditions().SetTrue(karpv1.ConditionTypeInitialized)
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{ProviderID: id}}
			if tc.claim != nil {
				tc.claim(claim)
			}
			if tc.node != nil {
				tc.node(node)
			}
			scheme := runtime.NewScheme()
			require.NoError(t, corev1.AddToScheme(scheme))
			v1 := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
			scheme.AddKnownTypes(v1, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
			metav1.AddToGroupVersion(scheme, v1)
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(claim, node).WithStatusSubresource(claim).
				WithIndex(&karpv1.NodeClaim{}, "status.providerID", func(o client.Object) []string { return []string{o.(*karpv1.NodeClaim).Status.ProviderID} }).
				Build()
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(node), node))
			before := node.DeepCopy()
			_, err := (&Rejoins{Client: c}).Reconcile(t.Context(), node)
			require.NoError(t, err)
			after := &corev1.Node{}
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(node), after))
			if !tc.gets {
				assert.Equal(t, before, after)
				return
			}
			assert.Equal(
				t,
				map[string]string{
					"kaito.sh/workspace":           "ws",
					karpv1.NodeRegisteredLabelKey:  "true",
					karpv1.NodeInitializedLabelKey: "true",
				},
				after.Labels,
			)
			assert.Equal(t, []corev1.Taint{gpu}, after.Spec.Taints)
			assert.Equal(t, []string{karpv1.TerminationFinalizer}, after.Finalizers)
			require.Len(t, after.OwnerReferences, 1)
			assert.Equal(t, "ws1", after.OwnerReferences[0].Name)
		})
	}
}
