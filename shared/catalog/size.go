// SPDX-License-Identifier: Apache-2.0

package catalog

// Size describes a VM size with GPUs. A partitioned size is a Size too: its GPUs are the MIG instances.
type Size struct {
	Name         string
	Aliases      []string // other names that people give it; Azure knows Name only
	GPUs         int
	GPUModel     string
	MemoryGiB    float64 // nominal, per GPU; 0: unknown
	DeviceGiB    float64 // as CUDA reports it, per GPU or MIG instance; the engine's utilization is a fraction of it
	Capability   ComputeCapability
	VCPUs        int
	RAMGiB       int
	LocalNVMe    bool
	QuotaFamily  string  // Azure's name of the vCPU quota of the size
	Utilization  float64 // fraction of DeviceGiB that an engine may use
	MIGProfile   string  // empty: whole GPUs
	PhysicalGPUs int     // equals GPUs unless partitioned
	Retired      string  // the day from which Azure does not offer the size, YYYY-MM-DD; empty: none is announced
	ReplacedBy   string  // the size that Azure recommends instead
	Needs        string  // what its nodes need besides what all need; empty: nothing. Planned only where it is named
}

// UsableGiB returns the memory that a plan may use on each GPU.
func (s Size) UsableGiB() float64 { return s.DeviceGiB * s.Utilization }

// MIGProfile is a MIG profile of a GPU model.
type MIGProfile struct {
	Name      string
	Instances int // number of instances per GPU
	Slices    int // of the eight memory slices of the GPU
}

type migTable struct {
	gpuModel  string
	memoryGiB float64
	profiles  []MIGProfile
}

// migReservedGiB is the difference between an instance's share of the GPU's memory and the memory that it reports.
// `nvidia-smi mig -lgip` prints 9.50, 19.50 and 39.25 GiB for 1/8, 2/8 and 4/8 of an 80 GiB A100, whose shares are
// 9.89, 19.79 and 39.58 GiB.
const migReservedGiB = 0.4

func (p MIGProfile) of(s Size) Size {
	s.PhysicalGPUs = s.GPUs
	s.GPUs *= p.Instances
	s.MemoryGiB = s.MemoryGiB * float64(p.Slices) / 8
	s.DeviceGiB = s.DeviceGiB*float64(p.Slices)/8 - migReservedGiB
	s.MIGProfile = p.Name
	return s
}
