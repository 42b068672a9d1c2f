// SPDX-License-Identifier: Apache-2.0

package installed

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// A100 is a size with one GPU and 24 vCPUs.
const A100 = "Standard_NC24ads_A100_v4"

// Machine returns a Machine like those of the workspace-operator.
func Machine(name, size, capacityType string) *karpenterv1alpha5.Machine {
	in := func(key string, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
	}
	return &karpenterv1alpha5.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{"kaito.sh/workspace": name, karpenterv1alpha5.LabelProvisionerName: "default"},
		},
		Spec: karpenterv1alpha5.MachineSpec{
			Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
			Requirements: []corev1.NodeSelectorRequirement{
				in(corev1.LabelInstanceTypeStable, size),
				in(karpv1.CapacityTypeLabelKey, capacityType),
				in(corev1.LabelOSStable, "linux"),
				in(corev1.LabelArchStable, "amd64"),
				in("kaito.sh/machine-type", "gpu"),
			},
			Resources: karpenterv1alpha5.ResourceRequirements{Requests: corev1.ResourceList{
				"nvidia.com/gpu": resource.MustParse("1"), corev1.ResourceEphemeralStorage: resource.MustParse("60Gi"),
			}},
		},
	}
}

// NodeClaim returns a NodeClaim without a Machine, like KAITO's.
func NodeClaim(name, size string) *karpv1.NodeClaim {
	in := func(key string, values ...string) karpv1.NodeSelectorRequirementWithMinValues {
		return karpv1.NodeSelectorRequirementWithMinValues{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
	}
	c := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kaito.sh/workspace": name}},
	}
	c.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "kaito.sh", Kind: "KaitoNodeClass", Name: "default"}
	c.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		in(corev1.LabelInstanceTypeStable, size),
		in(karpv1.CapacityTypeLabelKey, "on-demand"),
		in(corev1.LabelOSStable, "linux"),
		in(corev1.LabelArchStable, "amd64"),
	}
	c.Spec.Resources.Requests = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	return c
}
