// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Reasons of a job that makes progress.
const (
	// ReasonSuspended: spec.suspend is true, so that no pod runs.
	ReasonSuspended = "Suspended"
	// ReasonPending: the Job exists and waits for a queue, for its pod or for a node.
	ReasonPending = "Pending"
	// ReasonFetching: the pod fetches the model and the data.
	ReasonFetching = "Fetching"
	// ReasonTraining: the trainer runs.
	ReasonTraining = "Training"
	// ReasonPushing: the pod pushes the adapter to the output.
	ReasonPushing = "Pushing"
	// ReasonRetrying: an attempt has failed and is retried.
	ReasonRetrying = "Retrying"
	// ReasonSucceeded: the adapter is in the output.
	ReasonSucceeded = "Succeeded"
)

// Reasons for which nothing is created until a person acts. The job then continues automatically.
const (
	// ReasonInvalidSpec: the value of a field in the spec does not match its type.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonModelUnknown: spec.model.preset is not in the catalogue.
	ReasonModelUnknown = "ModelUnknown"
	// ReasonConfigNotFound: the ConfigMap that spec.config names, or its key, is missing.
	ReasonConfigNotFound = "ConfigNotFound"
	// ReasonConfigInvalid: the training configuration is invalid YAML, or has an invalid key or value.
	ReasonConfigInvalid = "ConfigInvalid"
	// ReasonConfigContradiction: parts of the training configuration contradict each other or the method.
	ReasonConfigContradiction = "ConfigContradiction"
	// ReasonJobRejected: the API server, or a policy in it, refused the Job.
	ReasonJobRejected = "JobRejected"
	// ReasonNameTaken: an object with a name that the job needs has another owner.
	ReasonNameTaken = "NameTaken"
)

// Reasons for which a created pod waits until a person acts. It then starts automatically.
const (
	// ReasonSecretNotFound: a Secret that the spec names is missing.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretInvalid: a Secret that the spec names lacks the required key.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonImagePullFailed: the node cannot pull an image of the pod.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonContainerNotStarted: the node cannot start a container of the pod for another reason.
	ReasonContainerNotStarted = "ContainerNotStarted"
)

// Reasons of an attempt that ended without being counted. It is retried from the last checkpoint.
const (
	// ReasonPreempted: another pod preempted this one, or the trainer stopped with a checkpoint on a signal.
	ReasonPreempted = "Preempted"
	// ReasonEvicted: the API or the node evicted the pod.
	ReasonEvicted = "Evicted"
	// ReasonNodeLost: the node of the pod was deleted or became unreachable.
	ReasonNodeLost = "NodeLost"
	// ReasonInterrupted: a step was interrupted.
	ReasonInterrupted = "Interrupted"
)

// Reasons of a failed attempt, and of a job that it made fail.
const (
	// ReasonOutOfMemory: a container exceeded its memory limit, or the memory of the node.
	ReasonOutOfMemory = "OutOfMemory"
	// ReasonGPUOutOfMemory: the memory of the GPU is too small for the model, the sequence length and the batch.
	ReasonGPUOutOfMemory = "GPUOutOfMemory"
	// ReasonTrainingDiverged: the loss was no longer a number.
	ReasonTrainingDiverged = "TrainingDiverged"
	// ReasonTrainingFailed: the trainer ended with another error.
	ReasonTrainingFailed = "TrainingFailed"
	// ReasonCheckpointInvalid: the trainer cannot resume from the checkpoint.
	ReasonCheckpointInvalid = "CheckpointInvalid"
	// ReasonDeadlineExceeded: the job ran longer than spec.activeDeadlineSeconds.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonBackoffLimitExceeded: all attempts failed without a reason.
	ReasonBackoffLimitExceeded = "BackoffLimitExceeded"
	// ReasonResultMissing: the pods succeeded but recorded no digest of the adapter.
	ReasonResultMissing = "ResultMissing"
	// ReasonPodFailed: a pod failed without a reason.
	ReasonPodFailed = "PodFailed"

	// ReasonSourceForbidden: an input has an address that is not allowed.
	ReasonSourceForbidden = "SourceForbidden"
	// ReasonSourceDenied: the credentials for an input are missing or have no access.
	ReasonSourceDenied = "SourceDenied"
	// ReasonSourceNotFound: an input does not exist.
	ReasonSourceNotFound = "SourceNotFound"
	// ReasonSourceTooLarge: an input is larger than allowed.
	ReasonSourceTooLarge = "SourceTooLarge"
	// ReasonSourceUnavailable: an input could not be fetched after several attempts.
	ReasonSourceUnavailable = "SourceUnavailable"
	// ReasonSourceInvalid: the name or the content of an input is invalid.
	ReasonSourceInvalid = "SourceInvalid"
	// ReasonChecksumMismatch: an input does not match its checksum or its size.
	ReasonChecksumMismatch = "ChecksumMismatch"
	// ReasonDatasetInvalid: the data cannot be used for training; the message names the first invalid row.
	ReasonDatasetInvalid = "DatasetInvalid"
	// ReasonCredentialsInvalid: the content of a Secret is not a docker config.
	ReasonCredentialsInvalid = "CredentialsInvalid"
	// ReasonVolumeFull: the disk or the volume is full.
	ReasonVolumeFull = "VolumeFull"
	// ReasonFetchFailed: fetching failed for another reason.
	ReasonFetchFailed = "FetchFailed"
	// ReasonOutputInvalid: the adapter is incomplete, or its destination is invalid.
	ReasonOutputInvalid = "OutputInvalid"
	// ReasonOutputDenied: the registry refuses the push.
	ReasonOutputDenied = "OutputDenied"
	// ReasonPushFailed: the push failed for another reason.
	ReasonPushFailed = "PushFailed"
)
