// SPDX-License-Identifier: Apache-2.0

package v1alpha5

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Machine requests one node.
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

// MachineSpec describes the requested node.
type MachineSpec struct {
	// taints are put on the node.
	// +optional
	// +listType=atomic
	Taints []corev1.Taint `json:"taints,omitempty"`
	// startupTaints are put on the node. Another controller removes them before pods run.
	// +optional
	// +listType=atomic
	StartupTaints []corev1.Taint `json:"startupTaints,omitempty"`
	// requirements are those that the labels of the node must meet.
	// +listType=atomic
	Requirements []corev1.NodeSelectorRequirement `json:"requirements"`
	// resources are those that the node must have.
	// +optional
	Resources ResourceRequirements `json:"resources,omitempty"`
	// kubelet configures the kubelet of the node.
	// +optional
	Kubelet *KubeletConfiguration `json:"kubelet,omitempty"`
	// machineTemplateRef refers to a class of the provider. Empty: the default class of the provider.
	// +optional
	MachineTemplateRef *MachineTemplateRef `json:"machineTemplateRef,omitempty"`
}

// ResourceRequirements are the resources that a node must have.
type ResourceRequirements struct {
	// requests are the resources that the node must provide.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// MachineTemplateRef refers to a class of the provider.
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

// KubeletConfiguration has the settings that karpenter-core v0.31 supports.
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

// Duration is a duration in the format of Go's time.ParseDuration, for example 1m30s.
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:Pattern=`^([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|ms|s|m|h))+$`
type Duration string

// MachineStatus is the observed state of the node.
type MachineStatus struct {
	// nodeName is the name of the Node.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// providerID is that of the node.
	// +optional
	ProviderID string `json:"providerID,omitempty"`
	// capacity is that of the node.
	// +optional
	Capacity corev1.ResourceList `json:"capacity,omitempty"`
	// allocatable is that of the node.
	// +optional
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
	// conditions: MachineLaunched, MachineRegistered, MachineInitialized, and Ready, which is True if all three are.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []Condition `json:"conditions,omitempty"`
}

// ConditionSeverity is the severity of a condition that is not True, as in the API of knative.
type ConditionSeverity string

const (
	// ConditionSeverityError is a failure.
	ConditionSeverityError ConditionSeverity = ""
	// ConditionSeverityWarning is a warning.
	ConditionSeverityWarning ConditionSeverity = "Warning"
	// ConditionSeverityInfo is for information.
	ConditionSeverityInfo ConditionSeverity = "Info"
)

// Condition is a condition of a Machine in the format of knative, which karpenter-core v0.31 used.
type Condition struct {
	// type is the type of the condition.
	Type string `json:"type"`
	// status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// severity is that of a condition that is not True. Empty: Error.
	// +optional
	Severity ConditionSeverity `json:"severity,omitempty"`
	// lastTransitionTime is the time when the status changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`
	// reason is in CamelCase.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message is for people.
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

// Labels, annotations and the finalizer of a Machine, as in karpenter-core v0.31.
const (
	// LabelProvisionerName is the provisioner of a Machine.
	LabelProvisionerName = "karpenter.sh/provisioner-name"
	// LabelCapacityType is the key of the requirement for the capacity type.
	LabelCapacityType = "karpenter.sh/capacity-type"
	// TerminationFinalizer keeps a Machine until its node is released.
	TerminationFinalizer = "karpenter.sh/termination"
)

// GetCondition returns a condition by its type, or nil.
func (m *Machine) GetCondition(conditionType string) *Condition {
	for i := range m.Status.Conditions {
		if m.Status.Conditions[i].Type == conditionType {
			return &m.Status.Conditions[i]
		}
	}
	return nil
}
