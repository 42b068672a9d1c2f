// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Reasons of work that goes on.
const (
	// ReasonSuspended: spec.suspend is true, nothing runs and nothing is asked for.
	ReasonSuspended = "Suspended"
	// ReasonPending: the Job exists and waits: for a queue, for its pod, for a node.
	ReasonPending = "Pending"
	// ReasonFetching: the model and the data are on their way into the pod.
	ReasonFetching = "Fetching"
	// ReasonTraining: the trainer runs.
	ReasonTraining = "Training"
	// ReasonPushing: the adapter is on its way to the output.
	ReasonPushing = "Pushing"
	// ReasonRetrying: an attempt has failed and another one follows.
	ReasonRetrying = "Retrying"
	// ReasonSucceeded: the adapter is where it should be.
	ReasonSucceeded = "Succeeded"
)

// Reasons for which nothing is created until a person has acted; the job goes on by itself then.
const (
	// ReasonInvalidSpec: a field of the spec does not hold what its type allows.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonModelUnknown: spec.model.preset is in no catalogue.
	ReasonModelUnknown = "ModelUnknown"
	// ReasonConfigNotFound: the ConfigMap that spec.config names, or its key, is missing.
	ReasonConfigNotFound = "ConfigNotFound"
	// ReasonConfigInvalid: the training configuration can't be read, or a key or a value is not allowed.
	ReasonConfigInvalid = "ConfigInvalid"
	// ReasonConfigContradiction: parts of the training configuration exclude each other or the method.
	ReasonConfigContradiction = "ConfigContradiction"
	// ReasonJobRejected: the API server, or a policy in it, refused the Job.
	ReasonJobRejected = "JobRejected"
	// ReasonNameTaken: an object of the name that the job needs belongs to somebody else.
	ReasonNameTaken = "NameTaken"
)

// Reasons for which a created pod waits until a person has acted; it starts by itself then.
const (
	// ReasonSecretNotFound: a Secret that the spec names is missing.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretInvalid: a Secret that the spec names lacks the key that is needed.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonImagePullFailed: the node can't pull an image of the pod.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonContainerNotStarted: the node can't start a container of the pod for another reason.
	ReasonContainerNotStarted = "ContainerNotStarted"
)

// Reasons of an attempt that ended without being counted: it is tried again from the last checkpoint.
const (
	// ReasonPreempted: the pod was stopped for another one, or by the trainer's own checkpoint on a stop signal.
	ReasonPreempted = "Preempted"
	// ReasonEvicted: the pod was evicted, by the API or by its node.
	ReasonEvicted = "Evicted"
	// ReasonNodeLost: the node went away under the pod.
	ReasonNodeLost = "NodeLost"
	// ReasonInterrupted: a step was stopped from outside.
	ReasonInterrupted = "Interrupted"
)

// Reasons of a failed attempt, and of a job that has failed for it.
const (
	// ReasonOutOfMemory: the kernel stopped the container at its memory limit or the node's.
	ReasonOutOfMemory = "OutOfMemory"
	// ReasonGPUOutOfMemory: the GPU's memory was too small for the model, the sequence length and the batch.
	ReasonGPUOutOfMemory = "GPUOutOfMemory"
	// ReasonTrainingDiverged: the loss was no longer a number.
	ReasonTrainingDiverged = "TrainingDiverged"
	// ReasonTrainingFailed: the trainer ended with an error of its own.
	ReasonTrainingFailed = "TrainingFailed"
	// ReasonCheckpointInvalid: there is a checkpoint and it can't be resumed from.
	ReasonCheckpointInvalid = "CheckpointInvalid"
	// ReasonDeadlineExceeded: spec.activeDeadlineSeconds is over.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonBackoffLimitExceeded: all attempts failed and none left a reason.
	ReasonBackoffLimitExceeded = "BackoffLimitExceeded"
	// ReasonResultMissing: the pods ended well and left no word of where the adapter is.
	ReasonResultMissing = "ResultMissing"
	// ReasonPodFailed: a pod failed and left no reason.
	ReasonPodFailed = "PodFailed"

	// ReasonSourceForbidden: an input is at an address that may not be reached.
	ReasonSourceForbidden = "SourceForbidden"
	// ReasonSourceDenied: an input needs credentials, or those given have no access.
	ReasonSourceDenied = "SourceDenied"
	// ReasonSourceNotFound: an input is not there.
	ReasonSourceNotFound = "SourceNotFound"
	// ReasonSourceTooLarge: an input has more bytes than are allowed.
	ReasonSourceTooLarge = "SourceTooLarge"
	// ReasonSourceUnavailable: an input could not be fetched, repeatedly.
	ReasonSourceUnavailable = "SourceUnavailable"
	// ReasonSourceInvalid: an input is named in a way that can't be meant, or is not what it should be.
	ReasonSourceInvalid = "SourceInvalid"
	// ReasonChecksumMismatch: the bytes of an input are not those that were announced.
	ReasonChecksumMismatch = "ChecksumMismatch"
	// ReasonDatasetInvalid: the data can't be trained on; the message names the first bad row.
	ReasonDatasetInvalid = "DatasetInvalid"
	// ReasonCredentialsInvalid: a secret's content is no docker config.
	ReasonCredentialsInvalid = "CredentialsInvalid"
	// ReasonVolumeFull: no space is left.
	ReasonVolumeFull = "VolumeFull"
	// ReasonFetchFailed: fetching failed for another reason.
	ReasonFetchFailed = "FetchFailed"
	// ReasonOutputInvalid: the adapter is not whole, or its destination can't be meant.
	ReasonOutputInvalid = "OutputInvalid"
	// ReasonOutputDenied: the registry refuses to take the adapter.
	ReasonOutputDenied = "OutputDenied"
	// ReasonPushFailed: the adapter could not be delivered.
	ReasonPushFailed = "PushFailed"
)
