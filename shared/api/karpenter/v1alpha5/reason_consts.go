// SPDX-License-Identifier: Apache-2.0

package v1alpha5

// Reasons of the conditions of Machines and NodeClaims, and of their events. Reasons of Karpenter's own, such as
// LaunchFailed, are not here.
const (
	// ReasonAwaitingReconciliation: the provisioner has not looked at it yet.
	ReasonAwaitingReconciliation = "AwaitingReconciliation"
	// ReasonLaunching: the cloud creates the machine.
	ReasonLaunching = "Launching"

	// ReasonInvalidMachine: the Machine's spec cannot be provisioned.
	ReasonInvalidMachine = "InvalidMachine"
	// ReasonNameTaken: a NodeClaim of the name belongs to another object.
	ReasonNameTaken = "NameTaken"
	// ReasonNodeClassNotReady: the node class does not exist or is not Ready.
	ReasonNodeClassNotReady = "NodeClassNotReady"
	// ReasonLaunchTimeout: Karpenter deleted the claim, because it got no machine in time.
	ReasonLaunchTimeout = "LaunchTimeout"
	// ReasonNodeGone: a user, node repair or garbage collection deleted the claim.
	ReasonNodeGone = "NodeGone"
	// ReasonMachineGone: the cloud's machine was deleted by another client.
	ReasonMachineGone = "MachineGone"
	// ReasonNodeNeverJoined: the machine runs, but its Node did not join in time.
	ReasonNodeNeverJoined = "NodeNeverJoined"
	// ReasonAcceleratorNotReady: the Node is Ready, but its GPUs did not become allocatable in time.
	ReasonAcceleratorNotReady = "AcceleratorNotReady"
	// ReasonOperationTimedOut: the cloud's operation took too long and was aborted.
	ReasonOperationTimedOut = "OperationTimedOut"

	// ReasonAgentPoolLimitReached: the AKS cluster has as many agent pools as it may have.
	ReasonAgentPoolLimitReached = "AgentPoolLimitReached"
	// ReasonAgentPoolInDoubt: views of the agent pool contradict each other, so that nothing in it is changed.
	ReasonAgentPoolInDoubt = "AgentPoolInDoubt"
	// ReasonAgentPoolTagsReplaced: the agent pool lost the tags of the operator. Its machines are neither bound nor
	// deleted.
	ReasonAgentPoolTagsReplaced = "AgentPoolTagsReplaced"
	// ReasonAgentPoolAutoscaled: the cluster autoscaler is on. AKS then rejects a count, and the autoscaler may delete
	// machines.
	ReasonAgentPoolAutoscaled = "AgentPoolAutoscaled"

	// ReasonQuotaExceeded: the subscription's quota of the size's family is used up.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonRegionalQuotaExceeded: the subscription's quota of all vCPUs in the region is used up.
	ReasonRegionalQuotaExceeded = "RegionalQuotaExceeded"
	// ReasonSpotQuotaExceeded: the subscription's quota of spot vCPUs is used up.
	ReasonSpotQuotaExceeded = "SpotQuotaExceeded"
	// ReasonSKUNotAvailable: the region or the subscription does not offer the size.
	ReasonSKUNotAvailable = "SKUNotAvailable"
	// ReasonZonalCapacityUnavailable: the zone has no machine of the size now.
	ReasonZonalCapacityUnavailable = "ZonalCapacityUnavailable"
	// ReasonCapacityUnavailable: the region has no machine of the size now.
	ReasonCapacityUnavailable = "CapacityUnavailable"

	// ReasonClusterBusy: another operation changes the AKS cluster.
	ReasonClusterBusy = "ClusterBusy"
	// ReasonClusterNotRunning: the AKS cluster is stopped, starting or stopping.
	ReasonClusterNotRunning = "ClusterNotRunning"
	// ReasonClusterNotFound: there is no AKS cluster of the configured name.
	ReasonClusterNotFound = "ClusterNotFound"
	// ReasonThrottled: Azure gets too many calls.
	ReasonThrottled = "Throttled"
	// ReasonIdentityUnauthorized: the operator's identity is unknown, or lacks a right.
	ReasonIdentityUnauthorized = "IdentityUnauthorized"
	// ReasonInvalidRequest: Azure will never accept the request.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonAzureError: Azure failed in another way.
	ReasonAzureError = "AzureError"
)
