// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ImageFamily is the operating system of a node.
// +kubebuilder:validation:Enum=Ubuntu;AzureLinux
type ImageFamily string

const (
	// ImageFamilyUbuntu is the Ubuntu image of AKS.
	ImageFamilyUbuntu ImageFamily = "Ubuntu"
	// ImageFamilyAzureLinux is the Azure Linux image of AKS.
	ImageFamilyAzureLinux ImageFamily = "AzureLinux"
)

// OSDiskType is the type of the OS disk.
// +kubebuilder:validation:Enum=Managed;Ephemeral
type OSDiskType string

const (
	// OSDiskManaged is a managed disk.
	OSDiskManaged OSDiskType = "Managed"
	// OSDiskEphemeral is the local disk of the VM.
	OSDiskEphemeral OSDiskType = "Ephemeral"
)

// GPUDriver says whether AKS installs the GPU driver.
// +kubebuilder:validation:Enum=Install;None
type GPUDriver string

const (
	// GPUDriverInstall: AKS installs the driver.
	GPUDriverInstall GPUDriver = "Install"
	// GPUDriverNone: another component, for example the GPU operator, installs the driver.
	GPUDriverNone GPUDriver = "None"
)

// KaitoNodeClass configures the nodes of NodeClaims in Azure.
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

// KaitoNodeClassSpec configures nodes.
type KaitoNodeClassSpec struct {
	// imageFamily is the operating system of the node. Empty: Ubuntu.
	// +optional
	// +kubebuilder:default=Ubuntu
	ImageFamily ImageFamily `json:"imageFamily,omitempty"`
	// osDiskSizeGiB is the size of the OS disk. Empty: the ephemeral-storage that the claim requests, at least 128.
	// +optional
	// +kubebuilder:validation:Minimum=30
	// +kubebuilder:validation:Maximum=4095
	OSDiskSizeGiB *int32 `json:"osDiskSizeGiB,omitempty"`
	// osDiskType is the type of the OS disk. Empty: Managed.
	// +optional
	// +kubebuilder:default=Managed
	OSDiskType OSDiskType `json:"osDiskType,omitempty"`
	// gpuDriver says whether AKS installs the GPU driver. Empty: Install.
	// +optional
	// +kubebuilder:default=Install
	GPUDriver GPUDriver `json:"gpuDriver,omitempty"`
	// zones are the zones of the nodes, "1" to "3". Empty: regional placement.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:Pattern=`^[1-3]$`
	Zones []string `json:"zones,omitempty"`
	// subnetID is the resource ID of the subnet of the nodes. Empty: that of the cluster.
	// +optional
	// +kubebuilder:validation:Pattern=`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+$`
	SubnetID string `json:"subnetID,omitempty"`
	// tags are added to the tags that the provisioner puts on pools. Those have keys that begin with kaito.sh_.
	// +optional
	// +kubebuilder:validation:MaxProperties=40
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('kaito.sh'))",message="spec.tags: keys that begin with kaito.sh are reserved for the provisioner: rename them"
	Tags map[string]string `json:"tags,omitempty"`
	// spotMaxPrice is the maximum price of a spot node in US dollars per hour, a decimal. "-1": the on-demand price.
	// +optional
	// +kubebuilder:validation:Pattern=`^(-1|[0-9]+(\.[0-9]{1,5})?)$`
	SpotMaxPrice string `json:"spotMaxPrice,omitempty"`
	// maxPods is the maximum number of pods of a node. Empty: the default of AKS.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=250
	MaxPods *int32 `json:"maxPods,omitempty"`
	// capacityReservationGroupID is the resource ID of the capacity reservation group of the nodes.
	// +optional
	// +kubebuilder:validation:Pattern=`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/capacityReservationGroups/[^/]+$`
	CapacityReservationGroupID string `json:"capacityReservationGroupID,omitempty"`
	// maxNodesPerPool is the maximum number of nodes of a pool. Empty: the flag --max-nodes-per-pool.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxNodesPerPool *int32 `json:"maxNodesPerPool,omitempty"`
}

// KaitoNodeClassStatus is the observed state of the class.
type KaitoNodeClassStatus struct {
	// observedGeneration is the generation that the status describes.
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
	// ConditionReady is True when nodes of this class can be created.
	ConditionReady = "Ready"
)

// GetConditions returns the conditions of the class.
func (c *KaitoNodeClass) GetConditions() []metav1.Condition { return c.Status.Conditions }

// SetConditions replaces the conditions of the class.
func (c *KaitoNodeClass) SetConditions(conditions []metav1.Condition) {
	c.Status.Conditions = conditions
}
