// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/offering"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

const nodeClassKind = "KaitoNodeClass"

// managed returns whether this operator handles the Machine: the Machine does not name another provider's class, nor a
// type of machine other than gpu.
func managed(m *karpenterv1alpha5.Machine) bool {
	if ref := m.Spec.MachineTemplateRef; ref != nil && ref.Kind != "" && ref.Kind != nodeClassKind {
		return false
	}
	for _, r := range m.Spec.Requirements {
		if r.Key == kaitov1alpha1.LabelMachineType && r.Operator == corev1.NodeSelectorOpIn {
			return slices.Contains(r.Values, kaitov1alpha1.MachineTypeGPU)
		}
	}
	return true
}

// build returns the NodeClaim of a Machine. The same Machine always gets the same NodeClaim.
func build(m *karpenterv1alpha5.Machine, defaultClass string) *karpv1.NodeClaim {
	class := defaultClass
	if ref := m.Spec.MachineTemplateRef; ref != nil && ref.Kind == nodeClassKind && ref.Name != "" {
		class = ref.Name
	}
	claim := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name:        m.Name,
			Labels:      maps.Clone(m.Labels),
			Annotations: map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"},
			Finalizers:  []string{EvidenceFinalizer},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(m, karpenterv1alpha5.GroupVersion.WithKind("Machine")),
			},
		},
		Spec: karpv1.NodeClaimSpec{
			Taints:        m.Spec.Taints,
			StartupTaints: m.Spec.StartupTaints,
			Resources:     karpv1.ResourceRequirements{Requests: offering.Requests(m.Spec.Resources.Requests)},
			NodeClassRef: &karpv1.NodeClassReference{
				Group: nodeclassv1alpha1.GroupVersion.Group,
				Kind:  nodeClassKind,
				Name:  class,
			},
			ExpireAfter: karpv1.NillableDuration{}, // never expires
		},
	}
	for _, r := range m.Spec.Requirements {
		claim.Spec.Requirements = append(claim.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
			Key: r.Key, Operator: r.Operator, Values: r.Values,
		})
	}
	return claim
}
