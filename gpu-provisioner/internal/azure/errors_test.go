// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

const familyQuotaText = "Operation could not be completed as it results in exceeding approved standardNCADSA100v4Family Cores quota. " +
	"Additional details - Deployment Model: Resource Manager, Location: swedencentral, Current Limit: 100, Current Usage: 92, Additional Required: 24, (Minimum) New Limit Required: 116."

// Each row of the table has a case of its name here.
var rowCases = []struct {
	row  string
	code string
	// http is 0 for a failed operation.
	http         int
	message      string
	reason       string
	class        Class
	remember     time.Duration // on demand
	rememberSpot time.Duration
	remedy       string
}{
	{
		"family quota",
		"OperationNotAllowed",
		409,
		familyQuotaText,
		"QuotaExceeded",
		ClassCapacity,
		10 * time.Minute,
		10 * time.Minute,
		"request 116 vCPUs for standardNCADSA100v4Family in swedencentral",
	},
	{
		"family quota",
		"QuotaExceeded",
		0,
		strings.Replace(familyQuotaText, "Limit: 100", "Limit: 0", 1),
		"QuotaExceeded",
		ClassCapacity,
		time.Hour,
		time.Hour,
		"az quota update",
	},
	{
		"family quota",
		"ErrCode_InsufficientVCPUQuota",
		400,
		"Insufficient vcpu quota requested 24, remaining 0 for family standardNCADSA100v4Family for region eastus.",
		"QuotaExceeded",
		ClassCapacity,
		10 * time.Minute,
		10 * time.Minute,
		"the size's family",
	},
	{
		"regional quota",
		"OperationNotAllowed",
		0,
		strings.Replace(familyQuotaText, "standardNCADSA100v4Family Cores quota", "Total Regional Cores quota", 1),
		"RegionalQuotaExceeded",
		ClassCapacity,
		10 * time.Minute,
		10 * time.Minute,
		"request 116 vCPUs for cores",
	},
	{
		"spot quota",
		"QuotaExceeded",
		0,
		strings.Replace(familyQuotaText, "standardNCADSA100v4Family Cores quota", "LowPriorityCores quota", 1),
		"SpotQuotaExceeded",
		ClassCapacity,
		10 * time.Minute,
		10 * time.Minute,
		"or allow on-demand",
	},
	{
		"size not available in location",
		"SkuNotAvailable",
		409,
		"The requested size for resource is currently not available in location 'eastus' zones '' for subscription.",
		"SKUNotAvailable",
		ClassCapacity,
		23 * time.Hour,
		time.Hour,
		"choose another size or region",
	},
	{
		"size not supported for subscription",
		"BadRequest",
		400,
		"Virtual Machine size: 'Standard_ND96isr_H100_v5' is not supported for subscription 0000 in location 'eastus'.",
		"SKUNotAvailable",
		ClassCapacity,
		23 * time.Hour,
		23 * time.Hour,
		"choose another size or region",
	},
	{
		"zonal allocation",
		"ZonalAllocationFailed",
		0,
		"Allocation failed. We do not have sufficient capacity for the requested VM size in this zone.",
		"ZonalCapacityUnavailable",
		ClassCapacity,
		time.Hour,
		time.Hour,
		"none",
	},
	{
		"allocation",
		"AllocationFailed",
		0,
		"Allocation failed. We do not have sufficient capacity for the requested VM size in this region.",
		"CapacityUnavailable",
		ClassCapacity,
		time.Hour,
		time.Hour,
		"capacity reservation",
	},
	{
		"another operation in progress",
		"OperationNotAllowed",
		409,
		"Operation is not allowed: Another agentpool operation (Scaling) is in progress, see https://aka.ms/aks-pending-operation",
		"ClusterBusy",
		ClassConflict,
		0,
		0,
		"none",
	},
	{"etag", "PreconditionFailed", 412, "The etag did not match.", "ClusterBusy", ClassConflict, 0, 0, "none"},
	{"etag", "OriginalEtagNotExpect", 409, "", "ClusterBusy", ClassConflict, 0, 0, "none"},
	{
		"throttled",
		"TooManyRequests",
		429,
		"The request is being throttled, please retry again in 17 seconds.",
		"Throttled",
		ClassThrottle,
		0,
		0,
		"none",
	},
	{
		"throttled inside an operation",
		"TooManyRequests",
		0,
		"Compute throttled the request.",
		"Throttled",
		ClassThrottle,
		0,
		0,
		"none",
	},
	{
		"cluster or group not found",
		"ResourceGroupNotFound",
		404,
		"Resource group 'ml' could not be found.",
		"ClusterNotFound",
		ClassConfig,
		0,
		0,
		"resourceGroup",
	},
	{
		"cluster itself not found",
		"ResourceNotFound",
		404,
		"The Resource 'Microsoft.ContainerService/managedClusters/ai' under resource group 'ml' was not found.",
		"ClusterNotFound",
		ClassConfig,
		0,
		0,
		"clusterName",
	},
	{"agent pool not found", "NotFound", 404, "The agent pool g0000 was not found.", "NotFound", ClassGone, 0, 0, ""},
	{
		"not authorized",
		"AuthorizationFailed",
		403,
		"The client 'x' does not have authorization to perform action 'Microsoft.ContainerService/managedClusters/agentPools/write'",
		"IdentityUnauthorized",
		ClassConfig,
		0,
		0,
		"az role assignment create",
	},
	{
		"not authenticated",
		"InvalidAuthenticationToken",
		401,
		"The access token is invalid.",
		"IdentityUnauthorized",
		ClassConfig,
		0,
		0,
		"workload identity federation",
	},
	{
		"invalid request",
		"InvalidParameter",
		400,
		"The value of parameter agentPoolProfile.osDiskSizeGB is invalid.",
		"InvalidRequest",
		ClassTerminal,
		0,
		0,
		"the field that the message names",
	},
	{
		"invalid request",
		"BadRequest",
		400,
		"Preview feature is not registered.",
		"InvalidRequest",
		ClassTerminal,
		0,
		0,
		"the field that the message names",
	},
}

func TestEachRowOfTheTable(t *testing.T) {
	tested := map[string]bool{}
	for _, tc := range rowCases {
		tested[tc.row] = true
		t.Run(tc.row+"/"+tc.code, func(t *testing.T) {
			e := Classify(azureError(t, tc.http, tc.code, tc.message, nil))
			require.NotNil(t, e)
			assert.Equal(t, tc.reason, e.Reason)
			assert.Equal(t, tc.class, e.Class)
			assert.Equal(t, tc.remember, e.Remember(false), "remembered for an on-demand offering")
			assert.Equal(t, tc.rememberSpot, e.Remember(true), "remembered for a spot offering")
			if tc.remedy == "" {
				assert.Empty(t, e.Remedy)
			} else {
				assert.Contains(t, e.Remedy, tc.remedy)
			}
			assert.Equal(t, tc.row, matchingRow(tc.code, tc.http, tc.message), "the row that matched")
		})
	}
	for i := range table {
		assert.True(t, tested[table[i].name], "row %q has no case", table[i].name)
	}
}

func TestOperationNotAllowedNeedsItsText(t *testing.T) {
	e := Classify(azureError(t, 409, "OperationNotAllowed", "Something else altogether.", nil))
	assert.Equal(t, karpenterv1alpha5.ReasonAzureError, e.Reason, "neither quota nor conflict is said")
	assert.Equal(t, ClassTransient, e.Class)
}

func TestRetryAfterHeaderWinsOverTheText(t *testing.T) {
	e := Classify(azureError(t, 429, "Throttled", "please retry again in 17 seconds", http.Header{"Retry-After": {"42"}}))
	assert.Equal(t, 42*time.Second, e.RetryAfter)
	e = Classify(azureError(t, 429, "Throttled", "please retry again in 17 seconds", nil))
	assert.Equal(t, 17*time.Second, e.RetryAfter)
}

func TestServerErrorsAreTransient(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		e := Classify(azureError(t, status, "InternalServerError", "oops", nil))
		assert.Equal(t, ClassTransient, e.Class, status)
		assert.Zero(t, e.Remember(false), status)
	}
	assert.Equal(t, ClassTransient, Classify(io.ErrUnexpectedEOF).Class, "a dropped connection")
}

func TestRepeatedFailuresHaveTheSameMessage(t *testing.T) {
	first := Classify(
		azureError(t, 0, "AllocationFailed", "No capacity.\n Correlation ID: 1b2c-3 Timestamp: 2026-06-01T00:00:00Z", nil),
	)
	second := Classify(
		azureError(t, 0, "AllocationFailed", "No capacity.\n Correlation ID: 9f8e-7 Timestamp: 2026-06-02T00:00:00Z", nil),
	)
	assert.Equal(t, first.Error(), second.Error())
}
