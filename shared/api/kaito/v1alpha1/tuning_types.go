// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"kaito.sh/shared/api/embedded"
)

// ServePolicy says whether the tuned model is served.
// +kubebuilder:validation:Enum=OnSuccess;Never
type ServePolicy string

const (
	// ServeOnSuccess serves the tuned model when the job has succeeded.
	ServeOnSuccess ServePolicy = "OnSuccess"
	// ServeNever releases the nodes when the job has ended.
	ServeNever ServePolicy = "Never"
)

// TuningMethod is how the model is tuned; letter case does not matter.
// +kubebuilder:validation:Pattern=`^(?i:lora|qlora)$`
type TuningMethod string

const (
	// MethodLora trains low-rank adapters beside 16-bit weights.
	MethodLora TuningMethod = "lora"
	// MethodQLora trains low-rank adapters beside 4-bit weights.
	MethodQLora TuningMethod = "qlora"
)

// TuningSpec says how the model is tuned.
// +kubebuilder:validation:XValidation:rule="has(self.preset)",message="tuning.preset is needed: name the model to tune"
// +kubebuilder:validation:XValidation:rule="has(self.input)",message="tuning.input is needed: give it urls, an image, a volumeSource or a dataset"
// +kubebuilder:validation:XValidation:rule="has(self.output)",message="tuning.output is needed: give it an image or a volumeSource"
// +kubebuilder:validation:XValidation:rule="has(self.method) == has(oldSelf.method) && (!has(self.method) || self.method.lowerAscii() == oldSelf.method.lowerAscii())",message="tuning.method is immutable: create another Workspace"
type TuningSpec struct {
	// preset names the model to tune.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.name == oldSelf.name",message="tuning.preset.name is immutable: create another Workspace"
	Preset *PresetSpec `json:"preset,omitempty"`
	// method is lora or qlora. Empty: lora.
	// +optional
	// +kubebuilder:validation:MaxLength=5
	Method TuningMethod `json:"method,omitempty"`
	// config is the name of a ConfigMap with the key training_config.yaml.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Config string `json:"config,omitempty"`
	// input is the training data.
	// +optional
	Input *DataSource `json:"input,omitempty"`
	// output is where the adapter goes.
	// +optional
	Output *DataDestination `json:"output,omitempty"`
	// serve says whether the tuned model is served. Empty: OnSuccess.
	// +optional
	Serve ServePolicy `json:"serve,omitempty"`
}

// DataDestination is where an adapter goes: exactly one of image and volumeSource.
// +kubebuilder:validation:XValidation:rule="[has(self.image) && size(self.image) > 0, has(self.volumeSource)].filter(x, x).size() == 1",message="tuning.output needs exactly one of image and volumeSource: keep one and remove the other"
type DataDestination struct {
	// image is the reference that the adapter is pushed to.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// imagePushSecret is the name of a Secret (kubernetes.io/dockerconfigjson) for image.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ImagePushSecret string `json:"imagePushSecret,omitempty"`
	// volumeSource is any writable pod volume.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
}
