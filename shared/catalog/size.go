// SPDX-License-Identifier: Apache-2.0

package catalog

// Size is one kind of GPU node. A MIG profile of a size is a Size too: its GPUs are then the instances.
type Size struct {
	Name         string
	GPUs         int
	GPUModel     string
	MemoryGiB    float64 // as the vendor sells it, per GPU; 0 where not known
	DeviceGiB    float64 // as CUDA reports it, per GPU or MIG instance: what an engine's utilization is a fraction of
	Capability   ComputeCapability
	VCPUs        int
	RAMGiB       int
	LocalNVMe    bool
	QuotaFamily  string  // Azure's name of the vCPU quota that a node of this size counts against
	Utilization  float64 // fraction of DeviceGiB that an engine may take
	MIGProfile   string  // empty: whole GPUs
	PhysicalGPUs int     // as GPUs, unless partitioned
}

// UsableGiB is what a plan may fill on each GPU.
func (s Size) UsableGiB() float64 { return s.DeviceGiB * s.Utilization }

// MIGProfile is a way to cut one GPU model.
type MIGProfile struct {
	Name      string
	Instances int // of this profile on one GPU, when all are alike
	Slices    int // of the eight that the GPU's memory is cut into
}

type migTable struct {
	gpuModel  string
	memoryGiB float64
	profiles  []MIGProfile
}

// migReservedGiB is how much less an instance reports than its share of the GPU's memory: `nvidia-smi mig -lgip`
// prints 9.50, 19.50 and 39.25 GiB for 1/8, 2/8 and 4/8 of an 80 GiB A100, whose eighths are 9.89, 19.79 and 39.58.
const migReservedGiB = 0.4

func (p MIGProfile) of(s Size) Size {
	s.PhysicalGPUs = s.GPUs
	s.GPUs *= p.Instances
	s.MemoryGiB = s.MemoryGiB * float64(p.Slices) / 8
	s.DeviceGiB = s.DeviceGiB*float64(p.Slices)/8 - migReservedGiB
	s.MIGProfile = p.Name
	return s
}
