// SPDX-License-Identifier: Apache-2.0

package v1alpha5

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Machine asks for one node.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=machines,scope=Cluster,categories=karpenter
// +kubebuilder:printcolumn:name="Type",type="string",JSONPath=".metadata.labels.node\\.kubernetes\\.io/instance-type"
// +kubebuilder:printcolumn:name="Zone",type="string",JSONPath=".metadata.labels.topology\\.kubernetes\\.io/zone"
// +kubebuilder:printcolumn:name="Node",type="string",JSONPath=".status.nodeName"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Capacity",type="string",JSONPath=".metadata.labels.karpenter\\.sh/capacity-type",priority=1
// +kubebuilder:printcolumn:name="Provisioner",type="string",JSONPath=".metadata.labels.karpenter\\.sh/provisioner-name",priority=1
// +kubebuilder:printcolumn:name="Template",type="string",JSONPath=".spec.machineTemplateRef.name",priority=1
type Machine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec MachineSpec `json:"spec,omitempty"`
	// +optional
	Status MachineStatus `json:"status,omitempty"`
}

// MachineList is a list of Machines.
// +kubebuilder:object:root=true
type MachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Machine `json:"items"`
}

// MachineSpec says what node is asked for.
type MachineSpec struct {
	// taints are put on the node.
	// +optional
	// +listType=atomic
	Taints []corev1.Taint `json:"taints,omitempty"`
	// startupTaints are put on the node and removed by somebody before pods may run.
	// +optional
	// +listType=atomic
	StartupTaints []corev1.Taint `json:"startupTaints,omitempty"`
	// requirements that the node's labels must meet.
	// +listType=atomic
	Requirements []corev1.NodeSelectorRequirement `json:"requirements"`
	// resources that the node must have.
	// +optional
	Resources ResourceRequirements `json:"resources,omitempty"`
	// kubelet settings of the node.
	// +optional
	Kubelet *KubeletConfiguration `json:"kubelet,omitempty"`
	// machineTemplateRef refers to a provider's class. Empty: the provider's default.
	// +optional
	MachineTemplateRef *MachineTemplateRef `json:"machineTemplateRef,omitempty"`
}

// ResourceRequirements of a Machine.
type ResourceRequirements struct {
	// requests that the node must be able to hold.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// MachineTemplateRef refers to a provider's class.
type MachineTemplateRef struct {
	// kind of the class.
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the class.
	Name string `json:"name"`
	// apiVersion of the class.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
}

// KubeletConfiguration is what karpenter-core v0.31 let a Machine set.
type KubeletConfiguration struct {
	// +optional
	// +listType=atomic
	ClusterDNS []string `json:"clusterDNS,omitempty"`
	// +optional
	ContainerRuntime *string `json:"containerRuntime,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxPods *int32 `json:"maxPods,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=0
	PodsPerCore *int32 `json:"podsPerCore,omitempty"`
	// +optional
	SystemReserved corev1.ResourceList `json:"systemReserved,omitempty"`
	// +optional
	KubeReserved corev1.ResourceList `json:"kubeReserved,omitempty"`
	// +optional
	EvictionHard map[string]string `json:"evictionHard,omitempty"`
	// +optional
	EvictionSoft map[string]string `json:"evictionSoft,omitempty"`
	// +optional
	EvictionSoftGracePeriod map[string]Duration `json:"evictionSoftGracePeriod,omitempty"`
	// +optional
	EvictionMaxPodGracePeriod *int32 `json:"evictionMaxPodGracePeriod,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ImageGCHighThresholdPercent *int32 `json:"imageGCHighThresholdPercent,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ImageGCLowThresholdPercent *int32 `json:"imageGCLowThresholdPercent,omitempty"`
	// +optional
	CPUCFSQuota *bool `json:"cpuCFSQuota,omitempty"`
}

// Duration is a length of time as Go's time.ParseDuration reads it, for example 1m30s.
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:Pattern=`^([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|ms|s|m|h))+$`
type Duration string

// MachineStatus is what the provisioner has seen.
type MachineStatus struct {
	// nodeName is the Node that the machine became.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// providerID of the machine.
	// +optional
	ProviderID string `json:"providerID,omitempty"`
	// capacity of the node.
	// +optional
	Capacity corev1.ResourceList `json:"capacity,omitempty"`
	// allocatable of the node.
	// +optional
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
	// conditions: MachineLaunched, MachineRegistered, MachineInitialized, and Ready = all three.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []Condition `json:"conditions,omitempty"`
}

// ConditionSeverity of a condition that is not True, as knative's apis had it.
type ConditionSeverity string

const (
	// ConditionSeverityError is a failure.
	ConditionSeverityError ConditionSeverity = ""
	// ConditionSeverityWarning is worth a look.
	ConditionSeverityWarning ConditionSeverity = "Warning"
	// ConditionSeverityInfo is for the record.
	ConditionSeverityInfo ConditionSeverity = "Info"
)

// Condition of a Machine: knative's shape, which karpenter-core v0.31 used.
type Condition struct {
	// type of the condition.
	Type string `json:"type"`
	// status: True, False, Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// severity of a condition that is not True. Empty: Error.
	// +optional
	Severity ConditionSeverity `json:"severity,omitempty"`
	// lastTransitionTime is when the status changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`
	// reason in CamelCase.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message for people.
	// +optional
	Message string `json:"message,omitempty"`
}

// Condition types of a Machine.
const (
	ConditionMachineLaunched    = "MachineLaunched"
	ConditionMachineRegistered  = "MachineRegistered"
	ConditionMachineInitialized = "MachineInitialized"
	ConditionReady              = "Ready"
)

// Labels and annotations of karpenter-core v0.31 that a Machine carries.
const (
	// LabelProvisionerName is the provisioner that a Machine is accounted to.
	LabelProvisionerName = "karpenter.sh/provisioner-name"
	// LabelCapacityType is the key of the capacity type's requirement.
	LabelCapacityType = "karpenter.sh/capacity-type"
	// TerminationFinalizer keeps a Machine until its node is released.
	TerminationFinalizer = "karpenter.sh/termination"
)

// GetCondition returns the condition of a type, or nil.
func (m *Machine) GetCondition(conditionType string) *Condition {
	for i := range m.Status.Conditions {
		if m.Status.Conditions[i].Type == conditionType {
			return &m.Status.Conditions[i]
		}
	}
	return nil
}
