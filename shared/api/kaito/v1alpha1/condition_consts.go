// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a Workspace.
const (
	// ConditionReady is the verdict.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator is working on it.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a person must act.
	ConditionStalled = "Stalled"
	// ConditionResourceReady is True when all nodes are usable.
	ConditionResourceReady = "ResourceReady"
	// ConditionInferenceReady is True when the engine answers.
	ConditionInferenceReady = "InferenceReady"
	// ConditionWorkspaceReady is the verdict under the name that KAITO has for it.
	ConditionWorkspaceReady = "WorkspaceReady"
	// ConditionMachineReady is True when every Machine is Ready.
	ConditionMachineReady = "MachineReady"
	// ConditionNodeClaimReady is True when every NodeClaim is Ready.
	ConditionNodeClaimReady = "NodeClaimReady"
	// ConditionJobStarted is True when the TuningJob has started.
	ConditionJobStarted = "JobStarted"
	// ConditionWorkspaceSucceeded is KAITO's later name of the verdict.
	ConditionWorkspaceSucceeded = "WorkspaceSucceeded"
)

// Reasons of a Workspace's conditions. Those that can stall have a page in docs/runbooks.
const (
	// ReasonReady: all is well.
	ReasonReady = "Ready"
	// ReasonPending: an earlier stage has not ended.
	ReasonPending = "Pending"
	// ReasonNotNeeded: this stage does not exist for this Workspace.
	ReasonNotNeeded = "NotNeeded"
	// ReasonProvisioning: nodes are being made.
	ReasonProvisioning = "Provisioning"
	// ReasonTuning: the TuningJob runs.
	ReasonTuning = "Tuning"
	// ReasonTuned: the TuningJob has succeeded.
	ReasonTuned = "Tuned"
	// ReasonStarting: the engine starts.
	ReasonStarting = "Starting"
	// ReasonScaledToZero: resource.count is 0.
	ReasonScaledToZero = "ScaledToZero"
	// ReasonDeleting: the Workspace is being deleted.
	ReasonDeleting = "Deleting"

	// ReasonUnknownPreset: the catalogue has no such model.
	ReasonUnknownPreset = "UnknownPreset"
	// ReasonModelLookup: what is published about a model that the catalogue does not have is being read.
	ReasonModelLookup = "ModelLookup"
	// ReasonModelUnreachable: the model hub does not answer, or may not be asked.
	ReasonModelUnreachable = "ModelUnreachable"
	// ReasonModelNotFound: the model hub has no such repository or revision.
	ReasonModelNotFound = "ModelNotFound"
	// ReasonModelUnusable: what is published about the model is not what a plan can be made from.
	ReasonModelUnusable = "ModelUnusable"
	// ReasonUnknownInstanceType: the catalogue has no such size.
	ReasonUnknownInstanceType = "UnknownInstanceType"
	// ReasonInfeasible: the model does not fit any allowed size.
	ReasonInfeasible = "Infeasible"
	// ReasonSecretNotFound: a named Secret is missing.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretPolicyMissing: the admission policy that keeps the operator from creating Secrets does not hold for it.
	ReasonSecretPolicyMissing = "SecretPolicyMissing"
	// ReasonConfigMapNotFound: a named ConfigMap, or its key, is missing.
	ReasonConfigMapNotFound = "ConfigMapNotFound"
	// ReasonInvalidConfig: a ConfigMap's content is refused.
	ReasonInvalidConfig = "InvalidConfig"
	// ReasonInvalidSpec: the Workspace contradicts itself in a way the schema cannot tell.
	ReasonInvalidSpec = "InvalidSpec"

	// ReasonBudgetExceeded: a GPUBudget of the namespace does not allow the nodes.
	ReasonBudgetExceeded = "BudgetExceeded"
	// ReasonTooManyNodes: the plan has more nodes than --max-nodes-per-workspace allows.
	ReasonTooManyNodes = "TooManyNodes"
	// ReasonNoProvisioner: no provisioner watches the claim.
	ReasonNoProvisioner = "NoProvisioner"
	// ReasonNodeAPIMissing: neither Machine nor NodeClaim is served.
	ReasonNodeAPIMissing = "NodeAPIMissing"
	// ReasonNoMatchingNode: provisioning is Never and no node matches.
	ReasonNoMatchingNode = "NoMatchingNode"
	// ReasonNodeLost: a node that was in use is gone or not Ready.
	ReasonNodeLost = "NodeLost"
	// ReasonAcceleratorNotReady: a node has not brought its GPUs in time.
	ReasonAcceleratorNotReady = "AcceleratorNotReady"
	// ReasonLaunchFailed: a claim failed and gave no reason of its own.
	ReasonLaunchFailed = "LaunchFailed"
	// ReasonAttemptsExhausted: every allowed size and capacity type has failed.
	ReasonAttemptsExhausted = "AttemptsExhausted"

	// ReasonTuningOperatorMissing: TuningJob is not served, or no operator watches it.
	ReasonTuningOperatorMissing = "TuningOperatorMissing"
	// ReasonTuningFailed: the TuningJob failed and gave no reason of its own.
	ReasonTuningFailed = "TuningFailed"

	// ReasonNameTaken: an object of the needed name is there and is not this Workspace's.
	ReasonNameTaken = "NameTaken"
	// ReasonImagePullFailed: an image cannot be pulled.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonEngineCrashing: the engine exits repeatedly.
	ReasonEngineCrashing = "EngineCrashing"
	// ReasonOutOfMemory: a container was killed for its memory.
	ReasonOutOfMemory = "OutOfMemory"
	// ReasonUnschedulable: the pod fits no node.
	ReasonUnschedulable = "Unschedulable"
	// ReasonModelAccessDenied: the model hub answered 401 or 403.
	ReasonModelAccessDenied = "ModelAccessDenied"
	// ReasonDiskFull: the node's disk is too small.
	ReasonDiskFull = "DiskFull"
	// ReasonQuotaDenied: the namespace's ResourceQuota refuses the pod.
	ReasonQuotaDenied = "QuotaDenied"
	// ReasonPodRefused: the API server refuses the pod for another cause, for instance Pod Security or an admission
	// policy.
	ReasonPodRefused = "PodRefused"
)

// Labels, annotations and names that the contracts fix.
const (
	// LabelWorkspaceName is the name of the Workspace that owns the object.
	LabelWorkspaceName = "kaito.sh/workspace"
	// LabelWorkspaceNamespace is its namespace.
	LabelWorkspaceNamespace = "kaito.sh/workspacenamespace"
	// LabelWorkspaceUID is its UID: ownership of cluster-scoped objects.
	LabelWorkspaceUID = "kaito.sh/workspace-uid"
	// LabelMachineType is gpu on Machines and the requirement of the same key.
	LabelMachineType = "kaito.sh/machine-type"
	// MachineTypeGPU is LabelMachineType's value.
	MachineTypeGPU = "gpu"
	// Finalizer keeps a Workspace until its nodes are released.
	Finalizer = "workspace.kaito.sh/finalizer"
	// FieldManager owns the fields that the workspace-operator applies.
	FieldManager = "workspace-operator"
	// TaintKeySKU is the key of the taint that keeps other pods off GPU nodes; its value is gpu.
	TaintKeySKU = "sku"
	// TaintValueGPU is TaintKeySKU's value.
	TaintValueGPU = "gpu"
	// TaintKeySpot is the key of the taint that AKS puts on every spot node, and TaintValueSpot its value
	// (https://learn.microsoft.com/azure/aks/spot-node-pool).
	TaintKeySpot = "kubernetes.azure.com/scalesetpriority"
	// TaintValueSpot is TaintKeySpot's value.
	TaintValueSpot = "spot"
	// ResourceNvidiaGPU is the extended resource of NVIDIA's device plugin.
	ResourceNvidiaGPU = "nvidia.com/gpu"
	// PortHTTP is the client Service's port.
	PortHTTP = 80
	// PortGateway is where the gateway listens in the pod.
	PortGateway = 5000
	// PortRendezvous is torch's rendezvous port.
	PortRendezvous = 29500
)
