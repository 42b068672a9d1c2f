// SPDX-License-Identifier: Apache-2.0

package workspace

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

// deviceShare is what CUDA, and so the engine, sees of the memory that the label gives, which is nvidia-smi's total:
// the driver keeps some. Of the catalogue's GPUs the V100 has the least, 15.77 of 16 GiB.
const deviceShare = 0.98

// bareUtilization is what an engine may take of a GPU that the catalogue does not know.
const bareUtilization = 0.9

// sizeOf reads a node that is there: by its instance type where the catalogue has it, else by what GPU feature
// discovery found. false where neither tells enough to plan with.
func sizeOf(n *corev1.Node, c *catalog.Catalog) (catalog.Size, bool) {
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
		MemoryGiB: mib / 1024, DeviceGiB: mib / 1024 * deviceShare, Capability: capability, Utilization: bareUtilization,
	}, true
}
