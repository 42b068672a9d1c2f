// SPDX-License-Identifier: Apache-2.0

package v1alpha5

import "kaito.sh/shared/api/reason"

// ReasonClasses has the class of every reason of Machines and NodeClaims.
var ReasonClasses = map[string]reason.Class{
	ReasonAwaitingReconciliation:   reason.Progress,
	ReasonLaunching:                reason.Progress,
	ReasonInvalidMachine:           reason.Stalled,
	ReasonNameTaken:                reason.Stalled,
	ReasonNodeClassNotReady:        reason.Stalled,
	ReasonLaunchTimeout:            reason.Stalled,
	ReasonNodeGone:                 reason.Stalled,
	ReasonMachineGone:              reason.Stalled,
	ReasonNodeNeverJoined:          reason.Stalled,
	ReasonAcceleratorNotReady:      reason.Stalled,
	ReasonOperationTimedOut:        reason.Stalled,
	ReasonAgentPoolLimitReached:    reason.Stalled,
	ReasonAgentPoolInDoubt:         reason.Stalled,
	ReasonAgentPoolTagsReplaced:    reason.Stalled,
	ReasonAgentPoolAutoscaled:      reason.Stalled,
	ReasonQuotaExceeded:            reason.Stalled,
	ReasonRegionalQuotaExceeded:    reason.Stalled,
	ReasonSpotQuotaExceeded:        reason.Stalled,
	ReasonSKUNotAvailable:          reason.Stalled,
	ReasonZonalCapacityUnavailable: reason.Stalled,
	ReasonCapacityUnavailable:      reason.Stalled,
	ReasonClusterBusy:              reason.Progress,
	ReasonClusterNotRunning:        reason.Stalled,
	ReasonClusterNotFound:          reason.Stalled,
	ReasonThrottled:                reason.Progress,
	ReasonIdentityUnauthorized:     reason.Stalled,
	ReasonInvalidRequest:           reason.Stalled,
	ReasonAzureError:               reason.Stalled,
}
