// SPDX-License-Identifier: Apache-2.0

package offering

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ResourceGPU is the extended resource of NVIDIA's device plugin.
const ResourceGPU corev1.ResourceName = "nvidia.com/gpu"

// Size is a VM size.
type Size struct {
	Name      string
	GPUs      int64
	VCPUs     int64
	MemoryGiB int64
	Family    string // quota family, by its name in the compute usages API
}

// Capacity returns the capacity of a Node of the size.
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

// Requests returns a claim's requests with the disk under the name that a Node reports. KAITO's claims request
// `storage`, which no Node reports, so Karpenter would wait for it forever. If both are requested, the larger one
// counts.
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
