// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kaito.sh/shared/api/embedded"
)

// Method is how the model is tuned; letter case does not matter.
// +kubebuilder:validation:Pattern=`^(?i:lora|qlora)$`
// +kubebuilder:validation:MaxLength=5
type Method string

const (
	// MethodLora trains low-rank adapters beside 16-bit weights.
	MethodLora Method = "lora"
	// MethodQLora trains low-rank adapters beside 4-bit weights.
	MethodQLora Method = "qlora"
)

// TuningJobSpec is what to train.
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
	// overrides have the shape of training_config.yaml and win over config.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	Overrides *runtime.RawExtension `json:"overrides,omitempty"`
	// input is the training data.
	Input Source `json:"input"`
	// output is where the adapter goes.
	Output Destination `json:"output"`
	// resources say what the job runs on.
	// +optional
	Resources ResourcesSpec `json:"resources,omitempty"`
	// checkpoint says how often progress is kept.
	// +optional
	Checkpoint CheckpointSpec `json:"checkpoint,omitempty"`
	// suspend keeps the job from running, as a batch Job's does.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
	// backoffLimit is the number of retries after failures that are the job's own. Empty: 3.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
	// activeDeadlineSeconds bounds the whole run.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`
	// ttlSecondsAfterFinished deletes the TuningJob's Job that long after it ended.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// ModelSpec is the base model: exactly one of preset and id names it.
// +kubebuilder:validation:XValidation:rule="[has(self.preset) && size(self.preset) > 0, has(self.id) && size(self.id) > 0].filter(x, x).size() == 1",message="spec.model needs exactly one of preset and id: keep one and remove the other"
type ModelSpec struct {
	// preset is a name or an alias of the catalogue.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Preset string `json:"preset,omitempty"`
	// id is a HuggingFace id org/model.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`
	ID string `json:"id,omitempty"`
	// revision pins the model. Empty: the catalogue's.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Revision string `json:"revision,omitempty"`
	// accessSecret is the name of a Secret whose key HF_TOKEN opens a gated model.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	AccessSecret string `json:"accessSecret,omitempty"`
	// source gives the weights from elsewhere than the hub.
	// +optional
	Source *ModelSource `json:"source,omitempty"`
}

// ModelSource gives weights from elsewhere than the hub.
// +kubebuilder:validation:XValidation:rule="[has(self.image) && size(self.image) > 0, has(self.volumeSource)].filter(x, x).size() == 1",message="spec.model.source needs exactly one of image and volumeSource: keep one and remove the other"
type ModelSource struct {
	// image is an OCI image that holds the weights.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// imagePullSecrets are names of Secrets (kubernetes.io/dockerconfigjson) for image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// volumeSource is any pod volume that holds the weights.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
}

// Source is the training data: exactly one of urls, image, volumeSource and dataset.
// +kubebuilder:validation:XValidation:rule="[has(self.urls) && size(self.urls) > 0, has(self.image) && size(self.image) > 0, has(self.volumeSource), has(self.dataset) && size(self.dataset) > 0].filter(x, x).size() == 1",message="spec.input needs exactly one of urls, image, volumeSource and dataset: keep one and remove the others"
type Source struct {
	// name of the source, for people.
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

// Destination is where the adapter goes: exactly one of image and volumeSource.
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

// ResourcesSpec says what the job runs on.
type ResourcesSpec struct {
	// gpusPerNode is the number of GPUs of each pod. Empty: 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16
	GPUsPerNode *int32 `json:"gpusPerNode,omitempty"`
	// nodes is the number of pods, one a node; more than one meet at the first pod's port 29500. Empty: 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Nodes *int32 `json:"nodes,omitempty"`
	// instanceType is the VM size, put into the node selector.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	InstanceType string `json:"instanceType,omitempty"`
	// nodeSelector says which nodes may run the job.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// tolerations are added to that of sku=gpu:NoSchedule.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// requests of the trainer besides GPUs. ephemeral-storage also bounds what is fetched, of model and dataset together.
	// Empty: 2 TiB.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// CheckpointSpec says how often progress is kept.
type CheckpointSpec struct {
	// everySteps is the number of steps between checkpoints. Empty: 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	EverySteps *int32 `json:"everySteps,omitempty"`
	// keep is the number of checkpoints kept. Empty: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Keep *int32 `json:"keep,omitempty"`
	// volumeSource outlives the pod. Empty: the job's own volume, which ends with the pod's node.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	VolumeSource *embedded.VolumeSource `json:"volumeSource,omitempty"`
}

// TuningJobStatus is what the operator has seen.
type TuningJobStatus struct {
	// observedGeneration is the generation that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready, Reconciling, Stalled, Running, Succeeded, Failed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// startTime is when the first pod ran.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// completionTime is when the job ended, well or not.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// progress is how far training is.
	// +optional
	Progress *Progress `json:"progress,omitempty"`
	// attempts are the runs that ended before the last one, newest last.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Attempts []Attempt `json:"attempts,omitempty"`
	// output is what was made.
	// +optional
	Output *Output `json:"output,omitempty"`
}

// Progress is how far training is. Decimals are strings.
type Progress struct {
	// step that has ended last.
	Step int64 `json:"step"`
	// totalSteps of the run.
	// +optional
	TotalSteps int64 `json:"totalSteps,omitempty"`
	// epoch, a decimal.
	// +optional
	Epoch string `json:"epoch,omitempty"`
	// percent of the steps, for people: "45%".
	// +optional
	Percent string `json:"percent,omitempty"`
	// loss of the last logged step, a decimal.
	// +optional
	Loss string `json:"loss,omitempty"`
	// learningRate of the last logged step, a decimal.
	// +optional
	LearningRate string `json:"learningRate,omitempty"`
	// tokensPerSecond over the last logged interval, a decimal.
	// +optional
	TokensPerSecond string `json:"tokensPerSecond,omitempty"`
	// eta is the time left, for people: "12m".
	// +optional
	ETA string `json:"eta,omitempty"`
	// updated is when these figures were reported.
	// +optional
	Updated *metav1.Time `json:"updated,omitempty"`
}

// Attempt is a run that ended before its work was done.
type Attempt struct {
	// reason that it ended for.
	Reason string `json:"reason"`
	// message for people.
	// +optional
	Message string `json:"message,omitempty"`
	// fromStep it started from.
	// +optional
	FromStep int64 `json:"fromStep,omitempty"`
	// toStep it reached.
	// +optional
	ToStep int64 `json:"toStep,omitempty"`
	// lostSteps had no checkpoint and were done again.
	// +optional
	LostSteps int64 `json:"lostSteps,omitempty"`
	// time it ended.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// Output is what was made.
type Output struct {
	// image is the reference by digest. Empty with a volume.
	// +optional
	Image string `json:"image,omitempty"`
	// digest of the image's manifest.
	// +optional
	Digest string `json:"digest,omitempty"`
	// size of the adapter in bytes.
	// +optional
	Size int64 `json:"size,omitempty"`
	// baseModel is the HuggingFace id.
	// +optional
	BaseModel string `json:"baseModel,omitempty"`
	// baseRevision is the pinned commit.
	// +optional
	BaseRevision string `json:"baseRevision,omitempty"`
	// datasetDigest is the SHA-256 of the data.
	// +optional
	DatasetDigest string `json:"datasetDigest,omitempty"`
}
