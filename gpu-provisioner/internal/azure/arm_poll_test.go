// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

func TestAnotherProcessResumesAnOperation(t *testing.T) {
	s, a := newServer(t)
	s.on(
		"PUT /agentPools/p", 201, map[string]string{"Azure-AsyncOperation": "SERVER" + cluster + "/operations/1"},
		poolJSON("p", "Creating", 1, "1"),
	)
	h, err := a.CreatePool(t.Context(), "p", Spec{Count: 1})
	require.NoError(t, err)
	raw, err := json.Marshal(h)
	require.NoError(t, err)

	var taken Handle
	require.NoError(t, json.Unmarshal(raw, &taken))
	status, after := `{"status":"InProgress"}`, "17"
	s.mux.HandleFunc("GET "+cluster+"/operations/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", after)
		_, _ = io.WriteString(w, status) // the test fails anyway if the response is not read
	})
	p, err := a.Poll(t.Context(), taken)
	require.NoError(t, err)
	assert.Equal(t, Progress{Next: 17 * time.Second}, p, "and Azure sends Retry-After")

	status = `{"status":"Succeeded"}`
	p, err = a.Poll(t.Context(), taken)
	require.NoError(t, err)
	assert.Equal(t, Progress{Done: true}, p)
	assert.Equal(
		t, []string{"PUT /agentPools/p", "GET /operations/1", "GET /operations/1"}, s.requests,
		"one call per poll, and none for the result",
	)
}

func TestFailedOperationIsClassified(t *testing.T) {
	for _, kind := range []OperationKind{OperationPut, OperationDelete, OperationDeleteMachines, OperationAbort} {
		t.Run(string(kind), func(t *testing.T) {
			s, a := newServer(t)
			operation := map[string]string{
				"Azure-AsyncOperation": "SERVER" + cluster + "/operations/1",
				"Location":             "SERVER" + cluster + "/operations/1",
			}
			s.on("PUT /agentPools/p", 201, operation, poolJSON("p", "Creating", 1, "1"))
			s.on("DELETE /agentPools/p", 202, operation, "")
			s.on("POST /agentPools/p/deleteMachines", 202, operation, "")
			s.on("POST /agentPools/p/abort", 202, operation, "")
			s.on(
				"GET /operations/1",
				200,
				nil,
				`{"status":"Failed","error":{"code":"AllocationFailed","message":"We do not have sufficient capacity."}}`,
			)
			var h Handle
			var err error
			switch kind {
			case OperationPut:
				h, err = a.CreatePool(t.Context(), "p", Spec{Count: 1})
			case OperationDelete:
				h, err = a.DeletePool(t.Context(), &Pool{Name: "p", ETag: "9"})
				assert.Equal(t, "9", s.headers["DELETE /agentPools/p"].Get("If-Match"))
			case OperationDeleteMachines:
				h, err = a.DeleteMachines(t.Context(), "p", []string{"m0", "m1"})
				assert.JSONEq(t, `{"machineNames":["m0","m1"]}`, s.bodies["POST /agentPools/p/deleteMachines"])
			case OperationAbort:
				h, err = a.Abort(t.Context(), "p")
			}
			require.NoError(t, err)
			assert.Equal(t, kind, h.Kind)
			p, err := a.Poll(t.Context(), h)
			require.NoError(t, err)
			require.True(t, p.Done)
			require.NotNil(t, p.Err)
			assert.Equal(t, karpenterv1alpha5.ReasonCapacityUnavailable, p.Err.Reason)
			assert.Equal(t, "AllocationFailed: We do not have sufficient capacity.", p.Err.Error())
		})
	}
}

func TestForgottenOperationIsLost(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"404 without a body":     {404, ""},
		"404 with an empty code": {404, `{"error":{"code":"","message":""}}`},
		"404 of the operation":   {404, `{"error":{"code":"OperationNotFound","message":"operation not found"}}`},
		"404 of the pool":        {404, `{"error":{"code":"NotFound","message":"nothing here"}}`},
		"410":                    {410, `{"error":{"code":"Gone","message":"expired"}}`},
	} {
		for poller, operation := range map[string]map[string]string{
			"the operation's status": {"Azure-AsyncOperation": "SERVER" + cluster + "/operations/1"},
			"its location":           {"Location": "SERVER" + cluster + "/operations/1"},
		} {
			t.Run(name+" of "+poller, func(t *testing.T) {
				s, a := newServer(t)
				s.on("POST /agentPools/p/deleteMachines", 202, operation, "")
				s.on("GET /operations/1", answer.status, nil, answer.body)
				h, err := a.DeleteMachines(t.Context(), "p", []string{"m0"})
				require.NoError(t, err)
				p, err := a.Poll(t.Context(), h)
				require.NoError(t, err)
				assert.Equal(t, Progress{Lost: true}, p)
			})
		}
	}
}
