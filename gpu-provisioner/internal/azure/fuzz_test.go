// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzProviderID checks that an ID in any letter case becomes one provider ID or none, and that the result is stable.
func FuzzProviderID(f *testing.F) {
	for _, seed := range []string{
		"/subscriptions/S/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/aks-g-vmss/virtualMachines/0",
		"azure:///subscriptions/s/resourcegroups/mc/providers/microsoft.compute/virtualmachinescalesets/v/virtualmachines/12",
		"/subscriptions//resourceGroups/x/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0",
		"/subscriptions/s/resourceGroups/x/providers/Microsoft.Compute/virtualMachines/vm", "", "azure://", "////////////",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		got := ProviderID(id)
		if got == "" {
			return
		}
		assert.Equal(t, got, ProviderID(got), "an id is its own")
		assert.Len(t, strings.Split(got, "/"), 13)
		assert.Regexp(t, `^azure:///subscriptions/`, got)
		for _, shouted := range []string{"subscriptions", "resourceGroups", "providers", "virtualMachineScaleSets", "virtualMachines"} {
			assert.Equal(
				t, got, ProviderID(strings.Replace(got, "/"+shouted+"/", "/"+strings.ToUpper(shouted)+"/", 1)),
				"letter case does not matter",
			)
		}
	})
}

// FuzzErrorBody checks that each response results in a reason, a class, and a message that fits a condition.
func FuzzErrorBody(f *testing.F) {
	f.Add(429, "7", `{"code":"Throttled","message":"please retry again in 17 seconds"}`)
	f.Add(
		400,
		"",
		`{"error":{"code":"ErrCode_InsufficientVCPUQuota","message":"exceeding approved standardNCADSA100v4Family Cores quota. Current Limit: 100, Current Usage: 92, Additional Required: 24, (Minimum) New Limit Required: 116."}}`,
	)
	f.Add(
		200,
		"",
		`{"status":"Failed","error":{"code":"DeploymentFailed","details":[{"code":"AllocationFailed","message":"no\ncapacity"}]}}`,
	)
	f.Add(500, "-1", ``)
	f.Add(403, "Wed, 21 Oct 2026 07:28:00 GMT", `<html>`)
	f.Add(404, "", `{"error":[]}`)
	f.Add(409, "", `{"error":{"code":"OperationNotAllowed","message":"`+strings.Repeat("é", 1000)+`"}}`)
	f.Fuzz(func(t *testing.T, status int, retryAfter, body string) {
		if status < 100 || status > 599 {
			return // net/http returns no other status
		}
		request, err := http.NewRequest(http.MethodGet, "https://management.example/x", nil)
		require.NoError(t, err)
		e := Classify(runtime.NewResponseError(&http.Response{
			StatusCode: status,
			Header:     http.Header{"Retry-After": {retryAfter}},
			Request:    request,
			Body:       io.NopCloser(strings.NewReader(body)),
		}))
		require.NotNil(t, e)
		assert.NotEmpty(t, e.Reason)
		assert.NotEmpty(t, e.Class)
		assert.GreaterOrEqual(t, e.RetryAfter.Seconds(), 0.0)
		if e.Class == ClassThrottle {
			assert.Positive(t, e.RetryAfter, "never at once")
		}
		for _, text := range []string{e.Error(), e.Explain()} {
			assert.NotContains(t, text, "\n")
			assert.True(t, utf8.ValidString(text), "%q", text)
			assert.Less(t, len(text), 2000, "a condition's message")
			_, err := json.Marshal(text)
			assert.NoError(t, err)
		}
	})
}
