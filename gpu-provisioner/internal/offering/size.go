// SPDX-License-Identifier: Apache-2.0

package offering

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ResourceGPU is the extended resource of NVIDIA's device plugin.
const ResourceGPU corev1.ResourceName = "nvidia.com/gpu"

// Size is what the catalogue knows of a VM size.
type Size struct {
	Name      string
	GPUs      int64
	VCPUs     int64
	MemoryGiB int64
	Family    string // quota family, as the compute usages API names it
}

// Capacity is what a Node of the size has.
func (s Size) Capacity() corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(s.VCPUs, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(s.MemoryGiB<<30, resource.BinarySI),
	}
	if s.GPUs > 0 {
		out[ResourceGPU] = *resource.NewQuantity(s.GPUs, resource.DecimalSI)
	}
	return out
}

// Requests are what a claim asks for, with the disk under the name that a Node reports. KAITO's claims ask for
// `storage`, which no Node has: core would wait for it without end. Where both are asked for the larger one counts.
func Requests(in corev1.ResourceList) corev1.ResourceList {
	storage, ok := in[corev1.ResourceStorage]
	if !ok {
		return in
	}
	out := maps.Clone(in)
	delete(out, corev1.ResourceStorage)
	if ephemeral := out[corev1.ResourceEphemeralStorage]; ephemeral.Cmp(storage) < 0 {
		out[corev1.ResourceEphemeralStorage] = storage
	}
	return out
}
