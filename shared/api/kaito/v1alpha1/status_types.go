// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// State is the state of a Workspace, in one word.
type State string

const (
	// StatePending has no plan yet.
	StatePending State = "Pending"
	// StateProvisioning waits for nodes.
	StateProvisioning State = "Provisioning"
	// StateTuning waits for the TuningJob.
	StateTuning State = "Tuning"
	// StateStarting waits for the engine.
	StateStarting State = "Starting"
	// StateRunning serves.
	StateRunning State = "Running"
	// StateSucceeded has tuned, and serves nothing.
	StateSucceeded State = "Succeeded"
	// StateStopped has been scaled to zero.
	StateStopped State = "Stopped"
	// StateFailed needs a person.
	StateFailed State = "Failed"
	// StateDeleting releases what it had.
	StateDeleting State = "Deleting"
)

// WorkspaceStatus is what the operator has seen and decided.
type WorkspaceStatus struct {
	// observedGeneration is the generation that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready, Reconciling, Stalled, ResourceReady, InferenceReady, WorkspaceReady, MachineReady or
	// NodeClaimReady, JobStarted, WorkspaceSucceeded.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// workerNodes are the names of the nodes in use.
	// +optional
	// +listType=atomic
	WorkerNodes []string `json:"workerNodes,omitempty"`
	// targetNodeCount is the number of nodes that the plan asks for.
	// +optional
	TargetNodeCount int32 `json:"targetNodeCount,omitempty"`
	// state is the state of the Workspace, in one word.
	// +optional
	State State `json:"state,omitempty"`
	// plan is what was decided, with the arithmetic.
	// +optional
	Plan *PlanStatus `json:"plan,omitempty"`
	// attempts are the last ten tries to get nodes that failed, newest last.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Attempts []Attempt `json:"attempts,omitempty"`
	// milestones are when each stage was first reached.
	// +optional
	Milestones *Milestones `json:"milestones,omitempty"`
	// endpoint is the address inside the cluster that answers /chat and /v1.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// tuning is carried up from the TuningJob.
	// +optional
	Tuning *TuningStatus `json:"tuning,omitempty"`
}

// PlanStatus is what was decided. Quantities are GiB per GPU where nothing else is said.
type PlanStatus struct {
	// instanceType is the VM size.
	// +optional
	InstanceType string `json:"instanceType,omitempty"`
	// capacityType is on-demand or spot.
	// +optional
	CapacityType CapacityType `json:"capacityType,omitempty"`
	// nodes is the number of nodes.
	Nodes int32 `json:"nodes"`
	// gpusPerNode is the number of GPUs used of each node.
	// +optional
	GPUsPerNode int32 `json:"gpusPerNode,omitempty"`
	// tensorParallel is the number of GPUs that share each layer.
	// +optional
	TensorParallel int32 `json:"tensorParallel,omitempty"`
	// pipelineParallel is the number of stages that the layers are cut into.
	// +optional
	PipelineParallel int32 `json:"pipelineParallel,omitempty"`
	// dataParallel is the number of copies of the model.
	// +optional
	DataParallel int32 `json:"dataParallel,omitempty"`
	// maxModelLen is the longest context, in tokens.
	// +optional
	MaxModelLen int64 `json:"maxModelLen,omitempty"`
	// dtype of weights and activations.
	// +optional
	DType string `json:"dtype,omitempty"`
	// engineImage runs the model.
	// +optional
	EngineImage string `json:"engineImage,omitempty"`
	// model is the HuggingFace id.
	// +optional
	Model string `json:"model,omitempty"`
	// revision is the pinned commit of the model.
	// +optional
	Revision string `json:"revision,omitempty"`
	// weightsImage has the weights, where they do not come from the model hub.
	// +optional
	WeightsImage string `json:"weightsImage,omitempty"`
	// memory is the arithmetic of one GPU.
	// +optional
	Memory *MemoryPlan `json:"memory,omitempty"`
	// costPerHour is the list price of all nodes, US dollars an hour, a decimal. Empty: not known.
	// +optional
	CostPerHour string `json:"costPerHour,omitempty"`
	// priceDate is the day of the price list, YYYY-MM-DD.
	// +optional
	PriceDate string `json:"priceDate,omitempty"`
	// warnings are what to know of the plan: a context that is shorter than the model's, or a size that Azure has retired.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Warnings []string `json:"warnings,omitempty"`
}

// MemoryPlan is the arithmetic of one GPU: decimals in GiB (2^30 bytes).
type MemoryPlan struct {
	// weights of the model, after parallelism.
	Weights string `json:"weights,omitempty"`
	// kvCache for the planned context.
	KVCache string `json:"kvCache,omitempty"`
	// activations and graphs; when tuning also gradients and optimizer states.
	Activations string `json:"activations,omitempty"`
	// overhead is what the engine may not use.
	Overhead string `json:"overhead,omitempty"`
	// free is what is left.
	Free string `json:"free,omitempty"`
}

// Attempt is one try to get nodes that failed.
type Attempt struct {
	// instanceType that was tried.
	InstanceType string `json:"instanceType"`
	// capacityType that was tried.
	// +optional
	CapacityType CapacityType `json:"capacityType,omitempty"`
	// reason that the provisioner gave.
	Reason string `json:"reason"`
	// message that the provisioner gave.
	// +optional
	Message string `json:"message,omitempty"`
	// time of the failure.
	Time metav1.Time `json:"time"`
}

// Milestones are when each stage was first reached.
type Milestones struct {
	// +optional
	Planned *metav1.Time `json:"planned,omitempty"`
	// +optional
	NodesRequested *metav1.Time `json:"nodesRequested,omitempty"`
	// +optional
	NodesReady *metav1.Time `json:"nodesReady,omitempty"`
	// +optional
	ImagePulled *metav1.Time `json:"imagePulled,omitempty"`
	// +optional
	WeightsReady *metav1.Time `json:"weightsReady,omitempty"`
	// +optional
	EngineReady *metav1.Time `json:"engineReady,omitempty"`
	// +optional
	Tuned *metav1.Time `json:"tuned,omitempty"`
}

// TuningStatus is carried up from the TuningJob.
type TuningStatus struct {
	// job is the TuningJob's name.
	Job string `json:"job,omitempty"`
	// progress for people: "45% (450/1000)".
	// +optional
	Progress string `json:"progress,omitempty"`
	// image is the pushed adapter by digest.
	// +optional
	Image string `json:"image,omitempty"`
	// digest of the pushed adapter.
	// +optional
	Digest string `json:"digest,omitempty"`
	// chatTemplate says that the adapter has the chat template that it was trained with. It is served with it.
	// +optional
	ChatTemplate bool `json:"chatTemplate,omitempty"`
}
