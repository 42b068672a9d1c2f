// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ImageFamily is the node's operating system.
// +kubebuilder:validation:Enum=Ubuntu;AzureLinux
type ImageFamily string

const (
	// ImageFamilyUbuntu is AKS's Ubuntu.
	ImageFamilyUbuntu ImageFamily = "Ubuntu"
	// ImageFamilyAzureLinux is AKS's Azure Linux.
	ImageFamilyAzureLinux ImageFamily = "AzureLinux"
)

// OSDiskType is where the node's OS disk is.
// +kubebuilder:validation:Enum=Managed;Ephemeral
type OSDiskType string

const (
	// OSDiskManaged is a managed disk.
	OSDiskManaged OSDiskType = "Managed"
	// OSDiskEphemeral is the VM's local disk.
	OSDiskEphemeral OSDiskType = "Ephemeral"
)

// GPUDriver says who installs the GPU driver.
// +kubebuilder:validation:Enum=Install;None
type GPUDriver string

const (
	// GPUDriverInstall lets AKS install it.
	GPUDriverInstall GPUDriver = "Install"
	// GPUDriverNone leaves it to, for example, the GPU operator.
	GPUDriverNone GPUDriver = "None"
)

// KaitoNodeClass says how a NodeClaim's node is made in Azure.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=kaitonodeclasses,scope=Cluster,categories=karpenter,shortName=knc
// +kubebuilder:printcolumn:name="Image",type="string",JSONPath=".spec.imageFamily"
// +kubebuilder:printcolumn:name="Disk",type="integer",JSONPath=".spec.osDiskSizeGiB"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason",priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type KaitoNodeClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec KaitoNodeClassSpec `json:"spec,omitempty"`
	// +optional
	Status KaitoNodeClassStatus `json:"status,omitempty"`
}

// KaitoNodeClassList is a list of KaitoNodeClasses.
// +kubebuilder:object:root=true
type KaitoNodeClassList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KaitoNodeClass `json:"items"`
}

// KaitoNodeClassSpec says how a node is made.
type KaitoNodeClassSpec struct {
	// imageFamily is the node's operating system. Empty: Ubuntu.
	// +optional
	// +kubebuilder:default=Ubuntu
	ImageFamily ImageFamily `json:"imageFamily,omitempty"`
	// osDiskSizeGiB is the size of the OS disk. Empty: what the claim's ephemeral-storage asks for, at least 128.
	// +optional
	// +kubebuilder:validation:Minimum=30
	// +kubebuilder:validation:Maximum=4095
	OSDiskSizeGiB *int32 `json:"osDiskSizeGiB,omitempty"`
	// osDiskType is where the OS disk is. Empty: Managed.
	// +optional
	// +kubebuilder:default=Managed
	OSDiskType OSDiskType `json:"osDiskType,omitempty"`
	// gpuDriver says who installs the GPU driver. Empty: Install.
	// +optional
	// +kubebuilder:default=Install
	GPUDriver GPUDriver `json:"gpuDriver,omitempty"`
	// zones of the nodes, "1" to "3". Empty: regional placement.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:Pattern=`^[1-3]$`
	Zones []string `json:"zones,omitempty"`
	// subnetID is the resource id of the nodes' subnet. Empty: the cluster's.
	// +optional
	// +kubebuilder:validation:Pattern=`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+$`
	SubnetID string `json:"subnetID,omitempty"`
	// tags are put on the pools, beside the provisioner's own, whose keys begin with kaito.sh_.
	// +optional
	// +kubebuilder:validation:MaxProperties=40
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('kaito.sh'))",message="spec.tags: keys that begin with kaito.sh are the provisioner's own: rename them"
	Tags map[string]string `json:"tags,omitempty"`
	// spotMaxPrice is the most that is paid for a spot node, US dollars an hour, a decimal; "-1": up to on-demand.
	// +optional
	// +kubebuilder:validation:Pattern=`^(-1|[0-9]+(\.[0-9]{1,5})?)$`
	SpotMaxPrice string `json:"spotMaxPrice,omitempty"`
	// maxPods of a node. Empty: AKS's default.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=250
	MaxPods *int32 `json:"maxPods,omitempty"`
	// capacityReservationGroupID is the resource id of a reservation to draw on.
	// +optional
	// +kubebuilder:validation:Pattern=`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/capacityReservationGroups/[^/]+$`
	CapacityReservationGroupID string `json:"capacityReservationGroupID,omitempty"`
	// maxNodesPerPool bounds the nodes of one agent pool; 1 is one pool a node. Empty: the flag --max-nodes-per-pool.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxNodesPerPool *int32 `json:"maxNodesPerPool,omitempty"`
}

// KaitoNodeClassStatus says whether nodes of this class can be made.
type KaitoNodeClassStatus struct {
	// observedGeneration is the generation that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Condition types of a KaitoNodeClass.
const (
	// ConditionReady is True when nodes of this class can be made.
	ConditionReady = "Ready"
)

// GetConditions returns the class's conditions.
func (c *KaitoNodeClass) GetConditions() []metav1.Condition { return c.Status.Conditions }

// SetConditions replaces the class's conditions.
func (c *KaitoNodeClass) SetConditions(conditions []metav1.Condition) {
	c.Status.Conditions = conditions
}
