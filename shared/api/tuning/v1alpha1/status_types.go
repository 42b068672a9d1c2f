// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TuningJobStatus is the observed state of the run.
type TuningJobStatus struct {
	// observedGeneration is the generation that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready, Reconciling, Stalled, Running, Succeeded, Failed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// startTime is the time when the first container started.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// completionTime is the time when the job ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// progress is the progress of the training.
	// +optional
	Progress *Progress `json:"progress,omitempty"`
	// attempts are the failed attempts, newest last.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Attempts []Attempt `json:"attempts,omitempty"`
	// output describes the adapter.
	// +optional
	Output *Output `json:"output,omitempty"`
}

// Progress is the progress of the training. Decimals are strings.
type Progress struct {
	// step is the last completed step.
	Step int64 `json:"step"`
	// totalSteps is the number of steps of the run.
	// +optional
	TotalSteps int64 `json:"totalSteps,omitempty"`
	// epoch is a decimal.
	// +optional
	Epoch string `json:"epoch,omitempty"`
	// percent is the part of the steps that is done, for people: "45%".
	// +optional
	Percent string `json:"percent,omitempty"`
	// loss is that of the last logged step, a decimal.
	// +optional
	Loss string `json:"loss,omitempty"`
	// learningRate is that of the last logged step, a decimal.
	// +optional
	LearningRate string `json:"learningRate,omitempty"`
	// tokensPerSecond is the rate of the last logged interval, a decimal.
	// +optional
	TokensPerSecond string `json:"tokensPerSecond,omitempty"`
	// eta is the remaining time, for people: "12m".
	// +optional
	ETA string `json:"eta,omitempty"`
	// updated is the time of these figures.
	// +optional
	Updated *metav1.Time `json:"updated,omitempty"`
}

// Attempt is a failed or interrupted attempt.
type Attempt struct {
	// reason is why it ended.
	Reason string `json:"reason"`
	// message is for people.
	// +optional
	Message string `json:"message,omitempty"`
	// fromStep is the step that it started from.
	// +optional
	FromStep int64 `json:"fromStep,omitempty"`
	// toStep is the step that it reached.
	// +optional
	ToStep int64 `json:"toStep,omitempty"`
	// lostSteps is the number of steps after the last checkpoint, which are repeated.
	// +optional
	LostSteps int64 `json:"lostSteps,omitempty"`
	// time is when it ended.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// Output describes the adapter.
type Output struct {
	// image is the reference by digest. It is empty for a volume.
	// +optional
	Image string `json:"image,omitempty"`
	// digest is that of the manifest of the image.
	// +optional
	Digest string `json:"digest,omitempty"`
	// size is the size of the adapter in bytes.
	// +optional
	Size int64 `json:"size,omitempty"`
	// baseModel is the HuggingFace ID of the base model.
	// +optional
	BaseModel string `json:"baseModel,omitempty"`
	// baseRevision is the commit of the base model.
	// +optional
	BaseRevision string `json:"baseRevision,omitempty"`
	// datasetDigest is the SHA-256 of the dataset.
	// +optional
	DatasetDigest string `json:"datasetDigest,omitempty"`
	// chatTemplate says that the adapter has the chat template that it was trained with, as chat_template.jinja.
	// +optional
	ChatTemplate bool `json:"chatTemplate,omitempty"`
}
