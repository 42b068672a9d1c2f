package offering

import (
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
