// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ProvisioningMode says where nodes come from.
// +kubebuilder:validation:Enum=Auto;Always;Never
type ProvisioningMode string

const (
	// ProvisioningAuto uses matching idle nodes first and creates what is missing.
	ProvisioningAuto ProvisioningMode = "Auto"
	// ProvisioningAlways creates every node anew.
	ProvisioningAlways ProvisioningMode = "Always"
	// ProvisioningNever uses only nodes that are there: bring your own.
	ProvisioningNever ProvisioningMode = "Never"
)

// CapacityType is how a node is paid for.
// +kubebuilder:validation:Enum=on-demand;spot
type CapacityType string

const (
	// CapacityOnDemand is a node at list price that is not taken back.
	CapacityOnDemand CapacityType = "on-demand"
	// CapacitySpot is a cheaper node that the cloud may take back.
	CapacitySpot CapacityType = "spot"
)

// PartitionMode says how the GPUs of a node are cut.
// +kubebuilder:validation:Enum=None;MIG
type PartitionMode string

const (
	// PartitionNone takes whole GPUs.
	PartitionNone PartitionMode = "None"
	// PartitionMIG takes Multi-Instance GPU slices of one profile.
	PartitionMIG PartitionMode = "MIG"
)

// ResourceSpec says what the model runs on.
// +kubebuilder:validation:XValidation:rule="!has(self.provisioning) || self.provisioning != 'Never' || !has(self.instanceTypes) || size(self.instanceTypes) == 0",message="resource.instanceTypes is for nodes that are created: with provisioning Never remove it, or set provisioning to Auto"
// +kubebuilder:validation:XValidation:rule="!has(self.instanceType) || size(self.instanceType) == 0 || !has(self.instanceTypes) || size(self.instanceTypes) == 0 || self.instanceTypes[0] == self.instanceType",message="resource.instanceType and resource.instanceTypes contradict each other: remove instanceType, or make it the first of instanceTypes"
type ResourceSpec struct {
	// instanceType is the VM size of the nodes, as Azure spells it (Standard_NC24ads_A100_v4).
	// Empty: the planner takes the cheapest size that the model fits.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	InstanceType string `json:"instanceType,omitempty"`
	// instanceTypes are sizes to try in order; the plan is made anew for each.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	InstanceTypes []string `json:"instanceTypes,omitempty"`
	// capacityTypes are tried in order for each size. Empty: on-demand.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	CapacityTypes []CapacityType `json:"capacityTypes,omitempty"`
	// provisioning says where nodes come from. Empty: Auto.
	// +optional
	Provisioning ProvisioningMode `json:"provisioning,omitempty"`
	// count is the number of nodes. Empty: planned. 0 releases the nodes and keeps the Workspace.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Count *int32 `json:"count,omitempty"`
	// labelSelector says which nodes are this Workspace's; matchLabels are put on created nodes.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="resource.labelSelector is immutable: create another Workspace"
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
	// preferredNodes are names of nodes to use first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	PreferredNodes []string `json:"preferredNodes,omitempty"`
	// partition takes a slice of the node's GPUs.
	// +optional
	Partition *PartitionSpec `json:"partition,omitempty"`
}

// PartitionSpec takes a slice of a node's GPUs.
// +kubebuilder:validation:XValidation:rule="self.mode != 'MIG' || has(self.profile)",message="resource.partition.profile is needed with mode MIG: name one, for example 1g.10gb"
type PartitionSpec struct {
	// mode says how the GPUs are cut.
	// +kubebuilder:default=None
	Mode PartitionMode `json:"mode,omitempty"`
	// profile is a MIG profile such as 3g.40gb.
	// +optional
	// +kubebuilder:validation:Pattern=`^[1-7]g\.[0-9]+gb$`
	Profile string `json:"profile,omitempty"`
	// count is the number of slices or GPUs taken of each node. Empty: what the plan needs.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=56
	Count *int32 `json:"count,omitempty"`
}
