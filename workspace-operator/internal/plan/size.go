// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
)

// Labels of NVIDIA's GPU feature discovery.
const (
	labelGPUProduct = "nvidia.com/gpu.product"
	labelGPUMemory  = "nvidia.com/gpu.memory" // MiB per GPU
	labelGPUMajor   = "nvidia.com/gpu.compute.major"
	labelGPUMinor   = "nvidia.com/gpu.compute.minor"
)

// deviceShare is the share of the labelled memory that CUDA, and so the engine, can use. The label has nvidia-smi's
// total, of which the driver keeps a part. Of the catalogue's GPUs the V100 has the smallest share: 15.77 of 16 GiB.
const deviceShare = 0.98

// unknownUtilization is the share of memory that the engine may use of a GPU that the catalogue does not have.
const unknownUtilization = 0.9

// SizeOf returns the size of a node: by its instance type where the catalogue has it, otherwise by the labels of GPU
// feature discovery. It returns false where neither says enough to plan with.
func SizeOf(n *corev1.Node, c *catalog.Catalog) (catalog.Size, bool) {
	allocatable := n.Status.Allocatable[kaitov1alpha1.ResourceNvidiaGPU]
	gpus := int(allocatable.Value())
	if gpus < 1 {
		return catalog.Size{}, false
	}
	name := n.Labels[corev1.LabelInstanceTypeStable]
	if size, err := c.Size(name); err == nil {
		size.GPUs = gpus
		return size, true
	}
	mib, err := strconv.ParseFloat(n.Labels[labelGPUMemory], 64)
	if err != nil || mib <= 0 {
		return catalog.Size{}, false
	}
	capability, err := catalog.ParseComputeCapability(n.Labels[labelGPUMajor] + "." + n.Labels[labelGPUMinor])
	if err != nil {
		return catalog.Size{}, false
	}
	if name == "" {
		name = n.Labels[labelGPUProduct]
	}
	return catalog.Size{
		Name: name, GPUs: gpus, PhysicalGPUs: gpus, GPUModel: n.Labels[labelGPUProduct],
		MemoryGiB: mib / 1024, DeviceGiB: mib / 1024 * deviceShare, Capability: capability, Utilization: unknownUtilization,
	}, true
}
