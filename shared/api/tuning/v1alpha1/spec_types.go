// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kaito.sh/shared/api/embedded"
)

// Method is the tuning method. Letter case does not matter.
// +kubebuilder:validation:Pattern=`^(?i:lora|qlora)$`
// +kubebuilder:validation:MaxLength=5
type Method string

const (
	// MethodLora trains low-rank adapters of 16-bit weights.
	MethodLora Method = "lora"
	// MethodQLora trains low-rank adapters of 4-bit weights.
	MethodQLora Method = "qlora"
)

// TuningJobSpec describes the run.
// +kubebuilder:validation:XValidation:rule="self.model == oldSelf.model && self.method == oldSelf.method && self.input == oldSelf.input && self.output == oldSelf.output",message="model, method, input and output are immutable: create another TuningJob"
type TuningJobSpec struct {
	// model is the base model.
	Model ModelSpec `json:"model"`
	// method is lora or qlora.
	// +kubebuilder:default=lora
	Method Method `json:"method,omitempty"`
	// config is the name of a ConfigMap with the key training_config.yaml, with the sections ModelConfig,
	// QuantizationConfig, LoraConfig, TrainingArguments, DataCollator and DatasetConfig.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Config string `json:"config,omitempty"`
	// overrides have the format of training_config.yaml and replace keys of config.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	Overrides *runtime.RawExtension `json:"overrides,omitempty"`
	// input is the training data.
	Input Source `json:"input"`
	// output is the destination of the adapter.
	Output Destination `json:"output"`
	// resources describe the nodes and the pods of the job.
	// +optional
	Resources ResourcesSpec `json:"resources,omitempty"`
	// checkpoint configures the checkpoints.
	// +optional
	Checkpoint CheckpointSpec `json:"checkpoint,omitempty"`
	// suspend stops the job while it is true, like the field of a batch Job.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
	// backoffLimit is the number of retries after failures other than disruptions. Empty: 3.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
	// activeDeadlineSeconds limits the duration of the whole run.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`
	// ttlSecondsAfterFinished is the time after the end of the run after which its Job is deleted.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// ModelSpec is the base model. Exactly one of preset and id names it.
// +kubebuilder:validation:XValidation:rule="[has(self.preset) && size(self.preset) > 0, has(self.id) && size(self.id) > 0].filter(x, x).size() == 1",message="spec.model needs exactly one of preset and id: keep one and remove the other"
type ModelSpec struct {
	// preset is a name or an alias of the catalogue.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Preset string `json:"preset,omitempty"`
	// id is a HuggingFace ID, org/model.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`
	ID string `json:"id,omitempty"`
	// revision is the commit, tag or branch of the model. Empty: that of the catalogue.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Revision string `json:"revision,omitempty"`
	// accessSecret is the name of a Secret whose key HF_TOKEN has a token for a gated model.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	AccessSecret string `json:"accessSecret,omitempty"`
	// source is a source of the weights other than the hub.
	// +optional
	Source *ModelSource `json:"source,omitempty"`
}

// ModelSource is a source of weights other than the hub.
// +kubebuilder:validation:XValidation:rule="[has(self.image) && size(self.image) > 0, has(self.volumeSource)].filter(x, x).size() == 1",message="spec.model.source needs exactly one of image and volumeSource: keep one and remove the other"
type ModelSource struct {
	// image is an OCI image with the weights.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// imagePullSecrets are names of Secrets (kubernetes.io/dockerconfigjson) for image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// volumeSource is any pod volume with the weights.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
}

// Source is the training data. Exactly one of urls, image, volumeSource and dataset is set.
// +kubebuilder:validation:XValidation:rule="[has(self.urls) && size(self.urls) > 0, has(self.image) && size(self.image) > 0, has(self.volumeSource), has(self.dataset) && size(self.dataset) > 0].filter(x, x).size() == 1",message="spec.input needs exactly one of urls, image, volumeSource and dataset: keep one and remove the others"
type Source struct {
	// name of the source, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`
	// urls are https URLs of files.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:Pattern=`^https?://.+`
	// +kubebuilder:validation:items:MaxLength=2048
	URLs []string `json:"urls,omitempty"`
	// image is an OCI image or artifact with the files.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// imagePullSecrets are names of Secrets (kubernetes.io/dockerconfigjson) for image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// volumeSource is any pod volume with the files.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
	// dataset is the ID of a HuggingFace dataset, org/name, with an optional @revision.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Dataset string `json:"dataset,omitempty"`
}

// Destination is the destination of the adapter. Exactly one of image and volumeSource is set.
// +kubebuilder:validation:XValidation:rule="[has(self.image) && size(self.image) > 0, has(self.volumeSource)].filter(x, x).size() == 1",message="spec.output needs exactly one of image and volumeSource: keep one and remove the other"
type Destination struct {
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

// ResourcesSpec describes the nodes and the pods of the job.
type ResourcesSpec struct {
	// gpusPerNode is the number of GPUs of each pod. Empty: 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16
	GPUsPerNode *int32 `json:"gpusPerNode,omitempty"`
	// nodes is the number of pods, one per node. Several pods connect to port 29500 of the first one. Empty: 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Nodes *int32 `json:"nodes,omitempty"`
	// instanceType is the VM size. It is added to the node selector.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	InstanceType string `json:"instanceType,omitempty"`
	// nodeSelector selects the nodes that may run the job.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// tolerations are added to those of GPU nodes: sku=gpu, spot and nvidia.com/gpu.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// requests of the trainer besides GPUs. ephemeral-storage also limits the size of the model and the dataset together.
	// Empty: 2 TiB.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// CheckpointSpec configures the checkpoints.
type CheckpointSpec struct {
	// everySteps is the number of steps between checkpoints. Empty: 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	EverySteps *int32 `json:"everySteps,omitempty"`
	// keep is the number of checkpoints to keep. Empty: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Keep *int32 `json:"keep,omitempty"`
	// volumeSource is any pod volume for the checkpoints. Empty: a volume of the job, if the cluster has a default
	// storage class, or the disk of the node.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
}
