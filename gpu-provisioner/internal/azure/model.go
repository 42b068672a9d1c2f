// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
)

// Tags that mark an agent pool as this operator's. A pool without them, or with another cluster's UID, is never written
// to or deleted. Azure forbids / in the name of a tag. KaitoNodeClass keeps users' tags out of the prefix kaito.sh.
const (
	TagManagedBy = "kaito.sh_managed-by"
	TagPoolKey   = "kaito.sh_pool-key"
	// TagClusterUID says which Kubernetes cluster the operator serves: its kube-system namespace's UID. Two clusters may
	// share an AKS cluster (a virtual one inside it has an API server of its own): what the other one's operator made is
	// not surplus.
	TagClusterUID  = "kaito.sh_cluster-uid"
	ManagedByValue = "gpu-provisioner"
)

// Provisioning states of an agent pool that are final; every other one means that an operation runs.
const (
	StateSucceeded = "Succeeded"
	StateFailed    = "Failed"
	StateCanceled  = "Canceled"
	StateDeleting  = "Deleting"
	StateCreating  = "Creating"
	StateScaling   = "Scaling"
)

// Cluster is what the operator reads of the managed cluster.
type Cluster struct {
	Location          string
	NodeResourceGroup string
	PowerState        string // Running, Stopped
	ProvisioningState string // Succeeded, Starting, Stopping, Deleting, …
	// Name and ResourceGroup are how az names the cluster, UID is the value of TagClusterUID on its pools; each may be
	// empty.
	Name, ResourceGroup, UID string
}

// Writable says whether agent pools may be written to: not while the cluster is stopping, stopped, starting or going
// away.
func (c Cluster) Writable() bool {
	if c.PowerState != "" && !strings.EqualFold(c.PowerState, string(armcontainerservice.CodeRunning)) {
		return false
	}
	return !slices.ContainsFunc([]string{"Stopping", "Starting", "Stopped", "Deleting"}, func(s string) bool {
		return strings.EqualFold(s, c.ProvisioningState)
	})
}

// Machine is one VM of an agent pool.
type Machine struct {
	Name string // as deleteMachines wants it
	// ProviderID is what the Node has in its spec. It is empty where Azure lists the machine without the id of its VM.
	ProviderID string
}

// Pool is one agent pool.
type Pool struct {
	Name  string
	ETag  string
	State string // provisioning state
	Count int    // what was asked for, not what is there
	Tags  map[string]string
	Size  string
	Spot  bool
	Zones []string
	// Autoscaled says that the cluster autoscaler is on: AKS refuses another count.
	Autoscaled bool
	// Failure is why the last operation failed, when the pool itself tells.
	Failure *Error

	// foreign is true when the pool's tags name another cluster.
	foreign bool

	Machines []Machine
	// MachinesAt is when Machines was read; zero: never.
	MachinesAt time.Time
	// Doubt says why Azure's list of the pool's machines cannot be believed; empty: it can. Machines are then those that
	// were read last and, of a list with gaps, those that have an id.
	Doubt string

	body armcontainerservice.AgentPool
}

// Ours says whether the pool's tags are this operator's.
func (p *Pool) Ours() bool {
	return !p.foreign && p.Tags[TagManagedBy] == ManagedByValue && p.Tags[TagPoolKey] != ""
}

// Key is the hash of the pool key that the pool was made for.
func (p *Pool) Key() string { return p.Tags[TagPoolKey] }

// Settled says that no operation runs on the pool, as far as the pool tells.
func (p *Pool) Settled() bool {
	return p.State == StateSucceeded || p.State == StateFailed || p.State == StateCanceled
}

// Upgrading says that AKS upgrades the pool, its Kubernetes version or its node image. Nothing that this operator
// writes upgrades a pool.
func (p *Pool) Upgrading() bool { return strings.HasPrefix(p.State, "Upgrading") }

// arriving says that an operation runs which may bring machines that the pool does not list yet.
func (p *Pool) arriving() bool {
	return !p.Settled() && p.State != StateDeleting && len(p.Machines) < p.Count
}

func (p *Pool) changedSince(old *Pool) bool {
	return p.ETag != old.ETag || p.Count != old.Count || p.State != old.State
}

// Machine returns the pool's machine of that provider id.
func (p *Pool) Machine(providerID string) (Machine, bool) {
	for _, m := range p.Machines {
		if m.ProviderID == providerID {
			return m, true
		}
	}
	return Machine{}, false
}

// Spec is what a new agent pool is made of.
type Spec struct {
	Size                       string
	Count                      int
	Spot                       bool
	SpotMaxPrice               *float32
	Zones                      []string
	OSSKU                      string // Ubuntu, AzureLinux
	OSDiskSizeGiB              int32
	OSDiskType                 string // Managed, Ephemeral; "": the size's default
	InstallGPUDriver           bool
	MIGProfile                 string
	MaxPods                    int32
	SubnetID                   string
	CapacityReservationGroupID string
	Taints                     []string // key=value:Effect
	Tags                       map[string]string
}

// OperationKind says what an operation does, and so how its poller is rebuilt.
type OperationKind string

const (
	OperationPut            OperationKind = "put"
	OperationDelete         OperationKind = "delete"
	OperationDeleteMachines OperationKind = "deleteMachines"
	OperationAbort          OperationKind = "abort"
)

// Handle is a running operation that can be looked at again, also by another process.
type Handle struct {
	Kind  OperationKind `json:"kind"`
	Pool  string        `json:"pool"`
	Token string        `json:"token"`
}

// Progress is the answer to one look at an operation.
type Progress struct {
	Done bool
	// Err is why the operation failed; only when Done.
	Err *Error
	// Lost says that Azure does not know the operation any more: what became of it is read from the pool.
	Lost bool
	// Next is when Azure wants to be asked again.
	Next time.Duration
}

func fromAgentPool(p *armcontainerservice.AgentPool) Pool {
	out := Pool{Name: deref(p.Name), body: *p}
	props := p.Properties
	if props == nil {
		return out
	}
	out.ETag = deref(props.ETag)
	out.State = deref(props.ProvisioningState)
	out.Count = int(deref(props.Count))
	out.Size = deref(props.VMSize)
	out.Autoscaled = deref(props.EnableAutoScaling)
	out.Spot = props.ScaleSetPriority != nil && *props.ScaleSetPriority == armcontainerservice.ScaleSetPrioritySpot
	out.Tags = map[string]string{}
	for k, v := range props.Tags {
		out.Tags[k] = deref(v)
	}
	for _, z := range props.AvailabilityZones {
		out.Zones = append(out.Zones, deref(z))
	}
	return out
}

func (s *Spec) agentPool() armcontainerservice.AgentPool {
	props := &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
		Count:             ptr(int32(s.Count)),
		VMSize:            ptr(s.Size),
		Mode:              ptr(armcontainerservice.AgentPoolModeUser),
		Type:              ptr(armcontainerservice.AgentPoolTypeVirtualMachineScaleSets),
		OSType:            ptr(armcontainerservice.OSTypeLinux),
		OSSKU:             ptr(armcontainerservice.OSSKU(s.OSSKU)),
		EnableAutoScaling: ptr(false),
		// A deleted machine must be gone, not deallocated: its disk would go on costing.
		ScaleDownMode:    ptr(armcontainerservice.ScaleDownModeDelete),
		ScaleSetPriority: ptr(armcontainerservice.ScaleSetPriorityRegular),
		Tags:             map[string]*string{},
	}
	for k, v := range s.Tags {
		props.Tags[k] = ptr(v)
	}
	if s.Spot {
		props.ScaleSetPriority = ptr(armcontainerservice.ScaleSetPrioritySpot)
		props.ScaleSetEvictionPolicy = ptr(armcontainerservice.ScaleSetEvictionPolicyDelete)
		props.SpotMaxPrice = s.SpotMaxPrice
	}
	for _, z := range s.Zones {
		props.AvailabilityZones = append(props.AvailabilityZones, ptr(z))
	}
	for _, t := range s.Taints {
		props.NodeTaints = append(props.NodeTaints, ptr(t))
	}
	if s.OSDiskSizeGiB > 0 {
		props.OSDiskSizeGB = ptr(s.OSDiskSizeGiB)
	}
	if s.OSDiskType != "" {
		props.OSDiskType = ptr(armcontainerservice.OSDiskType(s.OSDiskType))
	}
	driver := armcontainerservice.GPUDriverNone
	if s.InstallGPUDriver {
		driver = armcontainerservice.GPUDriverInstall
	}
	props.GpuProfile = &armcontainerservice.GPUProfile{Driver: ptr(driver)}
	if s.MIGProfile != "" {
		props.GpuInstanceProfile = ptr(armcontainerservice.GPUInstanceProfile(s.MIGProfile))
	}
	if s.MaxPods > 0 {
		props.MaxPods = ptr(s.MaxPods)
	}
	if s.SubnetID != "" {
		props.VnetSubnetID = ptr(s.SubnetID)
	}
	if s.CapacityReservationGroupID != "" {
		props.CapacityReservationGroupID = ptr(s.CapacityReservationGroupID)
	}
	return armcontainerservice.AgentPool{Properties: props}
}

// resized is the pool as it was read, with another count and without what only Azure writes.
func (p *Pool) resized(count int) armcontainerservice.AgentPool {
	props := *p.body.Properties
	props.Count = ptr(int32(count))
	props.ETag = nil
	props.ProvisioningState = nil
	props.CurrentOrchestratorVersion = nil
	props.NodeImageVersion = nil
	return armcontainerservice.AgentPool{Properties: &props}
}

func ptr[T any](v T) *T { return &v }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
