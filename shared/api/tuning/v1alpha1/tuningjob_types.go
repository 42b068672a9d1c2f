// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TuningJob is a fine-tuning run: it fetches the data, trains, and pushes the adapter.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=tuningjobs,scope=Namespaced,categories=kaito,shortName=tj
// +kubebuilder:printcolumn:name="Model",type="string",JSONPath=".status.output.baseModel"
// +kubebuilder:printcolumn:name="Method",type="string",JSONPath=".spec.method"
// +kubebuilder:printcolumn:name="Status",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason"
// +kubebuilder:printcolumn:name="Progress",type="string",JSONPath=".status.progress.percent"
// +kubebuilder:printcolumn:name="Loss",type="string",JSONPath=".status.progress.loss"
// +kubebuilder:printcolumn:name="ETA",type="string",JSONPath=".status.progress.eta"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type TuningJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec describes the run. model, method, input and output are immutable.
	Spec TuningJobSpec `json:"spec"`
	// status is written only by the tuning-operator.
	// +optional
	Status TuningJobStatus `json:"status,omitempty"`
}

// TuningJobList is a list of TuningJobs.
// +kubebuilder:object:root=true
type TuningJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TuningJob `json:"items"`
}

// GetConditions returns the TuningJob's conditions.
func (j *TuningJob) GetConditions() []metav1.Condition { return j.Status.Conditions }

// SetConditions replaces the TuningJob's conditions.
func (j *TuningJob) SetConditions(c []metav1.Condition) { j.Status.Conditions = c }
