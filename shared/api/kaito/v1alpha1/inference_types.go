// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"kaito.sh/shared/api/embedded"
)

// AccessMode says whether the model's weights are free to fetch. It is KAITO's and is accepted as it is there.
// +kubebuilder:validation:Enum=public;private
type AccessMode string

const (
	// AccessPublic models are fetched without credentials.
	AccessPublic AccessMode = "public"
	// AccessPrivate models come as an image named in presetOptions.
	AccessPrivate AccessMode = "private"
)

// PresetSpec names a model.
// +kubebuilder:validation:XValidation:rule="!has(self.accessMode) || self.accessMode != 'private' || (has(self.presetOptions) && has(self.presetOptions.image) && size(self.presetOptions.image) > 0)",message="preset.presetOptions.image is needed with accessMode private: name the image that holds the weights"
type PresetSpec struct {
	// name is a name or an alias of the catalogue, or a HuggingFace id org/model, with an optional @revision.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// accessMode says whether the weights are free to fetch. Empty: public.
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`
	// presetOptions says where else the weights come from.
	// +optional
	PresetOptions *PresetOptions `json:"presetOptions,omitempty"`
}

// PresetOptions says where a preset's weights come from.
type PresetOptions struct {
	// image is an image that holds the weights.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// imagePullSecrets are names of Secrets (kubernetes.io/dockerconfigjson) for image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// modelAccessSecret is the name of a Secret whose key HF_TOKEN opens a gated model.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ModelAccessSecret string `json:"modelAccessSecret,omitempty"`
}

// InferenceSpec says what is served.
// +kubebuilder:validation:XValidation:rule="has(self.preset) != has(self.template)",message="inference needs exactly one of preset and template: name a preset, or give a whole pod template"
// +kubebuilder:validation:XValidation:rule="!has(self.template) || !has(self.adapters) || size(self.adapters) == 0",message="inference.adapters is for presets: put adapters into the template, or use a preset"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.preset) || has(self.preset)",message="inference.preset is immutable: create another Workspace"
type InferenceSpec struct {
	// preset names the model.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.name == oldSelf.name",message="inference.preset.name is immutable: create another Workspace"
	Preset *PresetSpec `json:"preset,omitempty"`
	// template is a whole pod template instead of a preset. Edits are rolled out.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	Template *embedded.PodTemplate `json:"template,omitempty"`
	// config is the name of a ConfigMap with the key inference_config.yaml. Edits are rolled out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Config string `json:"config,omitempty"`
	// adapters are LoRA adapters served beside the base model. Edits are rolled out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:XValidation:rule="self.all(a, !has(a.source) || !has(a.source.name) || self.exists_one(b, has(b.source) && has(b.source.name) && b.source.name == a.source.name))",message="inference.adapters: each source.name may stand once: rename one"
	Adapters []AdapterSpec `json:"adapters,omitempty"`
}

// AdapterSpec is a LoRA adapter.
// +kubebuilder:validation:XValidation:rule="has(self.source)",message="inference.adapters[].source is needed: give it a name and an image or a volumeSource"
type AdapterSpec struct {
	// source says where the adapter comes from.
	// +optional
	Source *DataSource `json:"source,omitempty"`
	// strength is the adapter's weight, a decimal from 0 to 1. Empty: 1.
	// +optional
	// +kubebuilder:validation:Pattern=`^(0(\.[0-9]+)?|1(\.0+)?|\.[0-9]+)$`
	Strength *string `json:"strength,omitempty"`
}

// DataSource is where an adapter or a dataset comes from: exactly one of urls, image, volumeSource and dataset.
// +kubebuilder:validation:XValidation:rule="[has(self.urls) && size(self.urls) > 0, has(self.image) && size(self.image) > 0, has(self.volumeSource), has(self.dataset) && size(self.dataset) > 0].filter(x, x).size() == 1",message="a source needs exactly one of urls, image, volumeSource and dataset: keep one and remove the others"
type DataSource struct {
	// name of the source. An adapter is served as a model of this name.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`
	// urls are https addresses of files.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Pattern=`^https?://.+`
	// +kubebuilder:validation:items:MaxLength=2048
	URLs []string `json:"urls,omitempty"`
	// image is an OCI image or artifact that holds the files.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// imagePullSecrets are names of Secrets (kubernetes.io/dockerconfigjson) for image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// volumeSource is any pod volume that holds the files.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
	// dataset is a HuggingFace dataset id org/name, with an optional @revision.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Dataset string `json:"dataset,omitempty"`
}
