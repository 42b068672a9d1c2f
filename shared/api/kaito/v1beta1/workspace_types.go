// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Workspace names a model; the workspace-operator plans it, gets nodes for it, tunes it when asked to, and serves it.
// resource, inference and tuning stand at the top level: there is no spec, as users of KAITO know it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=workspaces,scope=Namespaced,categories=workspace,shortName={wk,wks}
// +kubebuilder:printcolumn:name="Instance",type="string",JSONPath=".resource.instanceType"
// +kubebuilder:printcolumn:name="ResourceReady",type="string",JSONPath=".status.conditions[?(@.type==\"ResourceReady\")].status"
// +kubebuilder:printcolumn:name="InferenceReady",type="string",JSONPath=".status.conditions[?(@.type==\"InferenceReady\")].status"
// +kubebuilder:printcolumn:name="WorkspaceReady",type="string",JSONPath=".status.conditions[?(@.type==\"WorkspaceReady\")].status"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="State",type="string",JSONPath=".status.state",priority=1
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason",priority=1
// +kubebuilder:printcolumn:name="Nodes",type="string",JSONPath=".status.workerNodes",priority=1
// +kubebuilder:printcolumn:name="Cost/h",type="string",JSONPath=".status.plan.costPerHour",priority=1
// +kubebuilder:printcolumn:name="Progress",type="string",JSONPath=".status.tuning.progress",priority=1
// +kubebuilder:validation:XValidation:rule="has(self.inference) || has(self.tuning)",message="a Workspace needs inference or tuning (or both: tune, then serve): add one of the two sections"
// +kubebuilder:validation:XValidation:rule="has(self.inference) == has(oldSelf.inference)",message="inference cannot be added to or removed from a Workspace: create another Workspace",optionalOldSelf=false
// +kubebuilder:validation:XValidation:rule="has(self.tuning) == has(oldSelf.tuning)",message="tuning cannot be added to or removed from a Workspace: create another Workspace",optionalOldSelf=false
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.resource) || !has(oldSelf.resource.labelSelector) || (has(self.resource) && has(self.resource.labelSelector))",message="resource.labelSelector is immutable: create another Workspace",optionalOldSelf=false
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// resource says what the model runs on.
	// +optional
	Resource kaitov1alpha1.ResourceSpec `json:"resource,omitempty"`
	// inference says what is served. With tuning beside it: what is served after tuning.
	// +optional
	Inference *kaitov1alpha1.InferenceSpec `json:"inference,omitempty"`
	// tuning says how the model is tuned first.
	// +optional
	Tuning *kaitov1alpha1.TuningSpec `json:"tuning,omitempty"`
	// status is written by the workspace-operator only.
	// +optional
	Status kaitov1alpha1.WorkspaceStatus `json:"status,omitempty"`
}

// WorkspaceList is a list of Workspaces.
// +kubebuilder:object:root=true
type WorkspaceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workspace `json:"items"`
}
