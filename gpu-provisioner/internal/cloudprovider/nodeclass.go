// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"github.com/awslabs/operatorpkg/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// nodeClass is a KaitoNodeClass with the methods that Karpenter needs of node classes. The API module has no such
// methods, because it depends only on Kubernetes' own types.
type nodeClass struct {
	nodeclassv1alpha1.KaitoNodeClass
}

// register adds the kind to client-go's global scheme, which Karpenter uses.
func (*nodeClass) register(scheme *runtime.Scheme) {
	scheme.AddKnownTypeWithName(nodeclassv1alpha1.GroupVersion.WithKind("KaitoNodeClass"), &nodeClass{})
}

func (n *nodeClass) DeepCopyObject() runtime.Object {
	return &nodeClass{KaitoNodeClass: *n.DeepCopy()}
}

func (n *nodeClass) GetConditions() []status.Condition {
	var out []status.Condition
	for _, c := range n.Status.Conditions {
		out = append(out, status.Condition(c))
	}
	return out
}

func (n *nodeClass) SetConditions(conditions []status.Condition) {
	n.Status.Conditions = nil
	for _, c := range conditions {
		n.Status.Conditions = append(n.Status.Conditions, metav1.Condition(c))
	}
}

func (n *nodeClass) StatusConditions(opts ...status.ForOption) status.ConditionSet {
	return status.NewReadyConditions().For(n, opts...)
}
