// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// kind is an error that Azure is known to return.
type kind struct {
	http          int
	code, message string
	retryAfter    int
	// arm errors have ARM's envelope. async errors are only returned by a failed operation.
	arm, async bool
}

// taxonomy has codes and texts from Azure's documentation and public reports about AKS. {size}, {family}, {location},
// {zone}, {pool}, {cluster}, {limit}, {usage}, {needed} and {minimum} are replaced by those of the call.
var taxonomy = map[string]kind{
	"FamilyQuota": {http: http.StatusBadRequest, code: "ErrCode_InsufficientVCPUQuota",
		message: quotaMessage("{family} Cores")},
	"RegionalQuota": {http: http.StatusBadRequest, code: "ErrCode_InsufficientVCPUQuota",
		message: quotaMessage("Total Regional Cores")},
	"SpotQuota": {http: http.StatusBadRequest, code: "OperationNotAllowed",
		message: quotaMessage("LowPriorityCores")},
	"SKUNotAvailable": {
		http:    http.StatusConflict,
		code:    "SkuNotAvailable",
		message: "The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: {size}' is currently not available in location '{location}'. Please try another size or deploy to a different location or different zone. See https://aka.ms/azureskunotavailable for details.",
	},
	"VMSizeNotSupported": {http: http.StatusBadRequest, code: "VMSizeNotSupported",
		message: "Virtual Machine size: '{size}' is not supported for subscription in location '{location}'."},
	"ZonalAllocationFailed": {
		async:   true,
		code:    "ZonalAllocationFailed",
		message: "Allocation failed. We do not have sufficient capacity for the requested VM size in this zone. Read more about improving likelihood of allocation success at https://aka.ms/allocation-guidance",
	},
	"OverconstrainedZonalAllocationRequest": {
		async:   true,
		code:    "OverconstrainedZonalAllocationRequest",
		message: "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too restrictive. Constraints applied are: VM Size {size}, Availability Zone {zone}.",
	},
	"AllocationFailed": {
		async:   true,
		code:    "AllocationFailed",
		message: "Allocation failed. We do not have sufficient capacity for the requested VM size in this region. Read more about improving likelihood of allocation success at https://aka.ms/allocation-guidance",
	},
	"OverconstrainedAllocationRequest": {
		async:   true,
		code:    "OverconstrainedAllocationRequest",
		message: "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too restrictive. Please remove some constraints and try again. Constraints applied are: VM Size {size}.",
	},
	"OperationInProgress": {
		http:    http.StatusConflict,
		code:    "OperationNotAllowed",
		message: "Operation is not allowed: Another operation (Updating) is in progress, please wait for it to finish before starting a new operation. See https://aka.ms/aks-pending-operation for more details.",
	},
	"ETagMismatch": {http: http.StatusPreconditionFailed, code: "PreconditionFailed",
		message: "The condition specified using HTTP conditional header(s) is not met."},
	"Throttled": {http: http.StatusTooManyRequests, code: "Throttled", retryAfter: 5,
		message: "The request is throttled, please retry again in 5 seconds."},
	"ServerError": {http: http.StatusInternalServerError, code: "InternalServerError", arm: true,
		message: "Encountered internal server error."},
	"ServiceUnavailable": {http: http.StatusServiceUnavailable, code: "ServerTimeout", arm: true, retryAfter: 1,
		message: "The request timed out. Please try again."},
	"Forbidden": {
		http:    http.StatusForbidden,
		code:    "AuthorizationFailed",
		arm:     true,
		message: "The client '{client}' with object id '{client}' does not have authorization to perform action 'Microsoft.ContainerService/managedClusters/{verb}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
	},
	"Unauthorized": {http: http.StatusUnauthorized, code: "InvalidAuthenticationToken", arm: true,
		message: "The access token is invalid or has expired."},
	"FederationBroken": {http: http.StatusUnauthorized, code: "invalid_client",
		message: "AADSTS700213: No matching federated identity record found for presented assertion subject."},
	"PoolNotFound": {http: http.StatusNotFound, code: "NotFound",
		message: "Could not find the agent pool {pool} in managed cluster {cluster}."},
	// Responses of ARM about an operation that it no longer knows or never knew: with a code, without a body, and
	// permanently (https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations).
	"OperationNotFound": {http: http.StatusNotFound, code: "OperationNotFound", arm: true,
		message: "The operation '{operation}' could not be found."},
	"OperationForgotten": {http: http.StatusNotFound},
	"OperationGone": {
		http:    http.StatusGone,
		code:    "Gone",
		arm:     true,
		message: "The requested operation is no longer available.",
	},
	"ClusterNotFound": {
		http:    http.StatusNotFound,
		code:    "ResourceNotFound",
		arm:     true,
		message: "The Resource 'Microsoft.ContainerService/managedClusters/{cluster}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
	},
	"ResourceGroupNotFound": {http: http.StatusNotFound, code: "ResourceGroupNotFound", arm: true,
		message: "Resource group '{group}' could not be found."},
	"InvalidParameter": {http: http.StatusBadRequest, code: "InvalidParameter",
		message: "The value of parameter agentPoolProfile is invalid."},
}

// quotaMessage is Compute's text about a request beyond a quota, as AKS returns it.
func quotaMessage(what string) string {
	return "Insufficient vcpu quota: operation could not be completed as it results in exceeding approved " + what +
		" quota. Additional details - Deployment Model: Resource Manager, Location: {location}, Current Limit: {limit}, Current Usage: {usage}, Additional Required: {needed}, (Minimum) New Limit Required: {minimum}."
}

// Kinds returns the names of errors that a Fault can use.
func Kinds() []string { return slices.Sorted(maps.Keys(taxonomy)) }

// failure returns a named error with the names and figures of the call.
func (s *Server) failure(name string, r Request, p *pool) *apiError {
	k := taxonomy[name]
	values := map[string]string{
		"location":  s.options.Location,
		"cluster":   s.options.ClusterName,
		"group":     s.options.ResourceGroup,
		"client":    s.options.ClientID,
		"scope":     s.clusterID(),
		"pool":      r.Pool,
		"operation": r.Operation,
		"verb":      actions[r.Verb],
		"size":      "",
		"family":    "",
		"zone":      "",
		"limit":     "0",
		"usage":     "0",
		"needed":    "0",
		"minimum":   "0",
	}
	if p != nil {
		values["size"], values["family"], values["zone"] = p.text("vmSize"), s.family(p), strings.Join(
			p.texts("availabilityZones"), ",",
		)
		if size, err := s.catalog.Size(p.text("vmSize")); err == nil {
			// The script says that the quota is used up.
			needed := int64(max(r.Count-p.Count, 1) * size.VCPUs)
			used := s.quotas()[quotaOf(name, size.QuotaFamily)].Used
			values["limit"], values["usage"] = fmt.Sprint(used), fmt.Sprint(used)
			values["needed"], values["minimum"] = fmt.Sprint(needed), fmt.Sprint(used+needed)
		}
	}
	return &apiError{
		HTTP:       max(k.http, http.StatusBadRequest),
		Code:       k.code,
		Message:    fill(k.message, values),
		RetryAfter: k.retryAfter,
		AKS:        !k.arm,
	}
}

// quotaOf returns the quota that an error is about.
func quotaOf(kind, family string) string {
	switch kind {
	case "RegionalQuota":
		return regionalCores
	case "SpotQuota":
		return spotCores
	default:
		return family
	}
}

// actions are the permissions that calls need, below Microsoft.ContainerService/managedClusters/.
var actions = map[string]string{
	"getCluster":     "read",
	"listPools":      "agentPools/read",
	"getPool":        "agentPools/read",
	"putPool":        "agentPools/write",
	"deletePool":     "agentPools/delete",
	"deleteMachines": "agentPools/deleteMachines/action",
	"abort":          "agentPools/abort/action",
	"listMachines":   "agentPools/machines/read",
	"getMachine":     "agentPools/machines/read",
}

func fill(text string, values map[string]string) string {
	for key, value := range values {
		text = strings.ReplaceAll(text, "{"+key+"}", value)
	}
	return text
}

// family returns the quota family of a pool's size, or "" for a size outside the catalogue.
func (s *Server) family(p *pool) string {
	size, err := s.catalog.Size(p.text("vmSize"))
	if err != nil {
		return ""
	}
	return size.QuotaFamily
}
