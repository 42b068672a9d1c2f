// SPDX-License-Identifier: Apache-2.0

package rejoin

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/scheme"
)

func TestMetadataIsRestored(t *testing.T) {
	const id = "azure:///m1"
	gpu := corev1.Taint{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}
	for name, tc := range map[string]struct {
		claim    func(*karpv1.NodeClaim)
		node     func(*corev1.Node)
		restored bool
	}{
		"new Node of a registered claim":    {restored: true},
		"first registration is Karpenter's": {claim: func(c *karpv1.NodeClaim) { c.StatusConditions().SetUnknown(karpv1.ConditionTypeRegistered) }},
		"Node registered already":           {node: func(n *corev1.Node) { n.Labels = map[string]string{karpv1.NodeRegisteredLabelKey: "true"} }},
		"Node of another machine":           {node: func(n *corev1.Node) { n.Spec.ProviderID = "azure:///m2" }},
		"Node without a provider ID":        {node: func(n *corev1.Node) { n.Spec.ProviderID = "" }, claim: func(c *karpv1.NodeClaim) { c.Status.ProviderID = "" }},
		"claim being deleted": {claim: func(c *karpv1.NodeClaim) {
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
			kinds, err := scheme.New()
			require.NoError(t, err)
			c := fake.NewClientBuilder().WithScheme(kinds).WithObjects(claim, node).WithStatusSubresource(claim).
				WithIndex(&karpv1.NodeClaim{}, "status.providerID", func(o client.Object) []string { return []string{o.(*karpv1.NodeClaim).Status.ProviderID} }).
				Build()
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(node), node))
			before := node.DeepCopy()
			_, err = New(Config{Client: c}).Reconcile(t.Context(), node)
			require.NoError(t, err)
			after := &corev1.Node{}
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(node), after))
			if !tc.restored {
				assert.Equal(t, before, after)
				return
			}
			assert.Equal(t, map[string]string{
				"kaito.sh/workspace": "ws", karpv1.NodeRegisteredLabelKey: "true", karpv1.NodeInitializedLabelKey: "true",
			}, after.Labels)
			assert.Equal(t, []corev1.Taint{gpu}, after.Spec.Taints)
			assert.Equal(t, []string{karpv1.TerminationFinalizer}, after.Finalizers)
			require.Len(t, after.OwnerReferences, 1)
			assert.Equal(t, "ws1", after.OwnerReferences[0].Name)
		})
	}
}
