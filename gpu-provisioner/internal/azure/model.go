// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
)

// Tags of this operator's agent pools. A pool without them, or with another cluster's UID, is never changed or deleted.
// Azure does not allow / in a tag's name. KaitoNodeClass rejects tags of users with the prefix kaito.sh.
const (
	TagManagedBy = "kaito.sh_managed-by"
	TagPoolKey   = "kaito.sh_pool-key"
	// TagClusterUID is the UID of the Kubernetes cluster: that of its namespace kube-system. Two clusters can share an AKS
	// cluster, because a virtual cluster inside it has its own API server. Machines of the other cluster are not surplus.
	TagClusterUID  = "kaito.sh_cluster-uid"
	ManagedByValue = "gpu-provisioner"
)

// Final provisioning states of an agent pool. In all other states an operation runs.
const (
	StateSucceeded = "Succeeded"
	StateFailed    = "Failed"
	StateCanceled  = "Canceled"
	StateDeleting  = "Deleting"
	StateCreating  = "Creating"
	StateScaling   = "Scaling"
)

// Cluster is the state of the managed cluster.
type Cluster struct {
	Location          string
	NodeResourceGroup string
	PowerState        string // Running, Stopped
	ProvisioningState string // Succeeded, Starting, Stopping, Deleting, …
	// ResourceGroup and Name are those of the az command line. UID is the value of TagClusterUID. Each can be empty.
	Name, ResourceGroup, UID string
}

// Writable returns whether agent pools can be written to: not while the cluster is stopping, stopped, starting or being
// deleted.
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
	Name string // as in deleteMachines
	// ProviderID is that of the Node's spec. Empty if Azure lists the machine without the ID of its VM.
	ProviderID string
}

// Pool is one agent pool.
type Pool struct {
	Name  string
	ETag  string
	State string // provisioning state
	Count int    // the requested count, which can differ from the number of machines
	Tags  map[string]string
	Size  string
	Spot  bool
	Zones []string
	// Autoscaled is true when the cluster autoscaler is on: AKS rejects a count then.
	Autoscaled bool
	// Failure is why the last operation failed, if the pool has it.
	Failure *Error

	// foreign is true when the pool's tags name another cluster.
	foreign bool

	Machines []Machine
	// MachinesAt is the time at which Machines was read. Zero: never.
	MachinesAt time.Time
	// Doubt is why Azure's list of the pool's machines is wrong, or empty. Machines are then those of the last correct
	// list or, of an incomplete list, those that have an ID.
	Doubt string

	body armcontainerservice.AgentPool
}

// Ours returns whether the pool has the tags of this operator.
func (p *Pool) Ours() bool {
	return !p.foreign && p.Tags[TagManagedBy] == ManagedByValue && p.Tags[TagPoolKey] != ""
}

// Key returns the hash of the pool's key.
func (p *Pool) Key() string { return p.Tags[TagPoolKey] }

// Settled returns whether no operation runs on the pool, according to its state.
func (p *Pool) Settled() bool {
	return p.State == StateSucceeded || p.State == StateFailed || p.State == StateCanceled
}

// Upgrading returns whether AKS upgrades the Kubernetes version or node image of the pool. No write of this operator
// does.
func (p *Pool) Upgrading() bool { return strings.HasPrefix(p.State, "Upgrading") }

// arriving returns whether an operation runs that can add machines.
func (p *Pool) arriving() bool {
	return !p.Settled() && p.State != StateDeleting && len(p.Machines) < p.Count
}

func (p *Pool) changedSince(old *Pool) bool {
	return p.ETag != old.ETag || p.Count != old.Count || p.State != old.State
}

// Machine returns the pool's machine with that provider ID.
func (p *Pool) Machine(providerID string) (Machine, bool) {
	for _, m := range p.Machines {
		if m.ProviderID == providerID {
			return m, true
		}
	}
	return Machine{}, false
}

// Spec describes a new agent pool.
type Spec struct {
	Size                       string
	Count                      int
	Spot                       bool
	SpotMaxPrice               *float32
	Zones                      []string
	OSSKU                      string // Ubuntu, AzureLinux
	OSDiskSizeGiB              int32
	OSDiskType                 string // Managed, Ephemeral; empty: the size's default
	InstallGPUDriver           bool
	MIGProfile                 string
	MaxPods                    int32
	SubnetID                   string
	CapacityReservationGroupID string
	Taints                     []string // key=value:Effect
	Tags                       map[string]string
}

// OperationKind is what an operation does, and how its poller is rebuilt.
type OperationKind string

const (
	OperationPut            OperationKind = "put"
	OperationDelete         OperationKind = "delete"
	OperationDeleteMachines OperationKind = "deleteMachines"
	OperationAbort          OperationKind = "abort"
)

// Handle identifies a running operation, also in another process.
type Handle struct {
	Kind  OperationKind `json:"kind"`
	Pool  string        `json:"pool"`
	Token string        `json:"token"`
}

// Progress is the result of one poll of an operation.
type Progress struct {
	Done bool
	// Err is why the operation failed, when Done.
	Err *Error
	// Lost is true when Azure no longer knows the operation. The pool shows the result.
	Lost bool
	// Next is the delay until the next poll that Azure requests.
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
		// Delete machines instead of deallocating them: the disk of a deallocated machine still costs money.
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

// resized returns the pool as it was read, with another count, and without read-only fields.
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
