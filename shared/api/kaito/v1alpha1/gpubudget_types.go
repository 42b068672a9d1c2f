// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition type and reasons of a GPUBudget. None of them stalls.
const (
	// BudgetConditionOver is True while the namespace uses more than the budget allows, for instance after a limit was
	// lowered.
	BudgetConditionOver = "OverBudget"
	// BudgetCounted: the use has been counted.
	BudgetCounted = "Counted"
	// BudgetWithin: the use is within all limits.
	BudgetWithin = "WithinBudget"
	// BudgetOver: the use is beyond a limit.
	BudgetOver = "OverBudget"
)

// GPUBudget limits the GPU nodes that the Workspaces of its namespace rent. A Workspace that would go beyond it is
// Stalled with the reason BudgetExceeded before any node is asked for, and continues when there is room. Nodes that
// exist already, and that a Workspace only uses, do not count. Where a namespace has several budgets, each of them must
// hold.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:resource:path=gpubudgets,scope=Namespaced
// +kubebuilder:printcolumn:name="Nodes",type="integer",JSONPath=".status.used.nodes"
// +kubebuilder:printcolumn:name="Max-Nodes",type="integer",JSONPath=".spec.maxNodes"
// +kubebuilder:printcolumn:name="GPUs",type="integer",JSONPath=".status.used.gpus"
// +kubebuilder:printcolumn:name="Max-GPUs",type="integer",JSONPath=".spec.maxGPUs"
// +kubebuilder:printcolumn:name="Cost/h",type="string",JSONPath=".status.used.costPerHour"
// +kubebuilder:printcolumn:name="Max-Cost/h",type="string",JSONPath=".spec.maxCostPerHour"
// +kubebuilder:printcolumn:name="Waiting",type="integer",JSONPath=".status.waitingWorkspaces"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Over",type="string",JSONPath=".status.conditions[?(@.type==\"OverBudget\")].status",priority=1
type GPUBudget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec has the limits. A limit that is not set does not limit anything.
	// +optional
	Spec GPUBudgetSpec `json:"spec,omitempty"`
	// status is written by the workspace-operator only.
	// +optional
	Status GPUBudgetStatus `json:"status,omitempty"`
}

// GPUBudgetSpec has the limits of a namespace.
type GPUBudgetSpec struct {
	// maxNodes is the largest number of rented nodes. 0 allows none. Not set: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	MaxNodes *int32 `json:"maxNodes,omitempty"`
	// maxGPUs is the largest number of GPUs on rented nodes. All GPUs of a node count, also those that a Workspace leaves
	// idle. 0 allows none. Not set: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MaxGPUs *int32 `json:"maxGPUs,omitempty"`
	// maxCostPerHour is the largest list price of all rented nodes together, US dollars an hour, a decimal in quotes such
	// as "12.50". A spot node counts with its price on demand. A size without a known price is refused. Not set: no limit.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^[0-9]{1,9}(\.[0-9]{1,6})?$`
	MaxCostPerHour string `json:"maxCostPerHour,omitempty"`
	// allowedInstanceTypes are the only VM sizes that may be rented; letter case does not matter. Empty: all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	AllowedInstanceTypes []string `json:"allowedInstanceTypes,omitempty"`
	// allowedCapacityTypes are the only capacity types that may be rented. Empty: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	AllowedCapacityTypes []CapacityType `json:"allowedCapacityTypes,omitempty"`
}

// GPUBudgetStatus is what the operator has counted.
type GPUBudgetStatus struct {
	// observedGeneration is the generation that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready (the use is counted) and OverBudget.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// used is what the namespace rents now. A node counts until it is gone, also while it is being deleted.
	// +optional
	Used *BudgetUse `json:"used,omitempty"`
	// workspaces are the Workspaces that have rented nodes, those with the most nodes first, at most 20.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=20
	Workspaces []BudgetShare `json:"workspaces,omitempty"`
	// otherWorkspaces is the number of Workspaces with rented nodes that workspaces leaves out.
	// +optional
	OtherWorkspaces int32 `json:"otherWorkspaces,omitempty"`
	// waitingWorkspaces is the number of Workspaces of the namespace that a budget keeps from renting nodes.
	// +optional
	WaitingWorkspaces int32 `json:"waitingWorkspaces,omitempty"`
}

// BudgetUse is a number of rented nodes and what they have and cost.
type BudgetUse struct {
	// nodes is the number of rented nodes.
	Nodes int32 `json:"nodes"`
	// gpus is the number of their GPUs.
	GPUs int32 `json:"gpus"`
	// costPerHour is their list price, US dollars an hour, a decimal.
	CostPerHour string `json:"costPerHour,omitempty"`
	// unpricedNodes is the number of nodes whose price is not known, and which costPerHour leaves out.
	// +optional
	UnpricedNodes int32 `json:"unpricedNodes,omitempty"`
}

// BudgetShare is what one Workspace has rented.
type BudgetShare struct {
	// name of the Workspace.
	Name      string `json:"name"`
	BudgetUse `json:",inline"`
}

// GPUBudgetList is a list of GPUBudgets.
// +kubebuilder:object:root=true
type GPUBudgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GPUBudget `json:"items"`
}

// GetConditions returns the budget's conditions.
func (b *GPUBudget) GetConditions() []metav1.Condition { return b.Status.Conditions }

// SetConditions replaces the budget's conditions.
func (b *GPUBudget) SetConditions(c []metav1.Condition) { b.Status.Conditions = c }
