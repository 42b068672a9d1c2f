// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"
)

// server is just enough of ARM to see what the real SDK sends and how its answers are read.
type server struct {
	*httptest.Server
	mux      *http.ServeMux
	requests []string
	bodies   map[string]string
	headers  map[string]http.Header
}

const cluster = "/subscriptions/" + guidA + "/resourceGroups/ml/providers/Microsoft.ContainerService/managedClusters/ai"

type staticToken struct{}

func (staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func newServer(t *testing.T) (*server, *ARM) {
	s := &server{mux: http.NewServeMux(), bodies: map[string]string{}, headers: map[string]http.Header{}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// ARM's paths know no case, and the SDK writes managedclusters for abort alone.
		r.URL.Path = strings.Replace(r.URL.Path, "/managedclusters/", "/managedClusters/", 1)
		call := r.Method + " " + strings.TrimPrefix(r.URL.Path, cluster)
		body, _ := io.ReadAll(r.Body) // a test's own request
		s.requests, s.bodies[call], s.headers[call] = append(s.requests, call), string(body), r.Header
		s.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(
		t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600),
	)
	config, err := ParseConfig(
		[]byte(
			valid+"cloud: Custom\nauth: default\nresourceManagerEndpoint: "+s.URL+"\nauthorityHost: https://login.local\ncaFile: "+ca+"\n",
		),
		environment(nil),
	)
	require.NoError(t, err)
	opts, err := config.clientOptions()
	require.NoError(t, err)
	a, err := newARM(
		config, staticToken{}, &arm.ClientOptions{ClientOptions: opts, DisableRPRegistration: true},
		NewLimits(testclock.NewFakeClock(time.Unix(1000, 0)), 1), NewMetrics(prometheus.NewRegistry()),
	)
	require.NoError(t, err)
	return s, a
}

func (s *server) on(pattern string, status int, header map[string]string, body string) {
	method, path, _ := strings.Cut(pattern, " ")
	s.mux.HandleFunc(method+" "+cluster+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for k, v := range header {
			w.Header().Set(k, strings.ReplaceAll(v, "SERVER", s.URL))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "SERVER", s.URL)) // the test fails anyway when it is not read
	})
}

func poolJSON(name, state string, count int, etag string) string {
	return fmt.Sprintf(
		`{"name":%q,"properties":{"count":%d,"vmSize":"Standard_NC24ads_A100_v4","provisioningState":%q,"eTag":%q,"nodeImageVersion":"x","currentOrchestratorVersion":"1.36.1","tags":{"kaito.sh_managed-by":"gpu-provisioner","kaito.sh_pool-key":"aaaaaaaa","team":"ml"},"osDiskSizeGB":128}}`,
		name,
		count,
		state,
		etag,
	)
}

func TestAListOfPoolsFailsWholeWhenOnePageFails(t *testing.T) {
	s, a := newServer(t)
	s.on(
		"GET /agentPools",
		200,
		nil,
		`{"value":[`+poolJSON("gaaaaaaaa0", "Succeeded", 1, "1")+`],"nextLink":"SERVER`+cluster+`/page2"}`,
	)
	s.on(
		"GET /page2",
		200,
		nil,
		`{"value":[`+poolJSON("gaaaaaaaa1", "Creating", 2, "2")+`],"nextLink":"SERVER`+cluster+`/page3"}`,
	)
	s.on("GET /page3", 500, nil, `{"error":{"code":"InternalServerError","message":"oops"}}`)
	pools, err := a.Pools(t.Context())
	assert.True(t, Is(err, ClassTransient), err)
	assert.Empty(t, pools)
	assert.Len(t, s.requests, 3, "and is not retried inside")
}

func TestMachinesAreReadWithTheProviderIDThatTheirNodesCarry(t *testing.T) {
	s, a := newServer(t)
	id := "/subscriptions/" + guidA + "/resourceGroups/MC_ml/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/"
	s.on(
		"GET /agentPools/p/machines",
		200,
		nil,
		`{"value":[{"name":"m0","properties":{"resourceId":"`+id+`0"}},{"name":"booting","properties":{}}],"nextLink":"SERVER`+cluster+`/more"}`,
	)
	s.on("GET /more", 200, nil, `{"value":[{"name":"m1","properties":{"resourceId":"`+id+`1"}}]}`)
	machines, err := a.Machines(t.Context(), "p")
	require.NoError(t, err)
	assert.Equal(
		t, []Machine{{"m0", ProviderID(id + "0")}, {"booting", ""}, {"m1", ProviderID(id + "1")}}, machines,
		"none is left out",
	)
}

func TestGrowingAPoolSendsItBackWithAnotherCountOnConditionOfItsETag(t *testing.T) {
	s, a := newServer(t)
	s.on("GET /agentPools", 200, nil, `{"value":[`+poolJSON("gaaaaaaaa0", "Succeeded", 1, "W/7")+`]}`)
	s.on(
		"PUT /agentPools/gaaaaaaaa0", 201, map[string]string{"Azure-AsyncOperation": "SERVER" + cluster + "/operations/1"},
		poolJSON("gaaaaaaaa0", "Scaling", 3, "W/8"),
	)
	pools, err := a.Pools(t.Context())
	require.NoError(t, err)
	h, err := a.ResizePool(t.Context(), &pools[0], 3)
	require.NoError(t, err)
	assert.NotEmpty(t, h.Token)
	const call = "PUT /agentPools/gaaaaaaaa0"
	assert.Equal(t, "W/7", s.headers[call].Get("If-Match"))
	var sent struct{ Properties map[string]any }
	require.NoError(t, json.Unmarshal([]byte(s.bodies[call]), &sent))
	assert.EqualValues(t, 3, sent.Properties["count"])
	assert.EqualValues(t, 128, sent.Properties["osDiskSizeGB"], "everything else stays")
	assert.Len(t, sent.Properties["tags"], 3)
	for _, readOnly := range []string{"eTag", "provisioningState", "nodeImageVersion", "currentOrchestratorVersion"} {
		assert.NotContains(t, sent.Properties, readOnly)
	}
}

func TestACreatedPoolIsWhatTheSpecSaysAndNeverOverwritesAnother(t *testing.T) {
	s, a := newServer(t)
	s.on("PUT /agentPools/gaaaaaaaa0", 412, nil, `{"error":{"code":"PreconditionFailed","message":"exists"}}`)
	price := float32(1.5)
	_, err := a.CreatePool(t.Context(), "gaaaaaaaa0", Spec{
		Size:                       "S",
		Count:                      2,
		Spot:                       true,
		SpotMaxPrice:               &price,
		Zones:                      []string{"2"},
		OSSKU:                      "Ubuntu",
		OSDiskSizeGiB:              128,
		OSDiskType:                 "Managed",
		MIGProfile:                 "MIG1g",
		MaxPods:                    30,
		SubnetID:                   "/s",
		CapacityReservationGroupID: "/c",
		Taints:                     []string{"sku=gpu:NoSchedule"},
		Tags:                       map[string]string{"a": "b"},
	})
	assert.True(t, Is(err, ClassConflict), err)
	const call = "PUT /agentPools/gaaaaaaaa0"
	assert.Equal(t, "*", s.headers[call].Get("If-None-Match"))
	assert.JSONEq(
		t,
		`{"properties":{"count":2,"vmSize":"S","mode":"User","type":"VirtualMachineScaleSets","osType":"Linux","osSKU":"Ubuntu",
		"enableAutoScaling":false,"scaleDownMode":"Delete","scaleSetPriority":"Spot","scaleSetEvictionPolicy":"Delete","spotMaxPrice":1.5,
		"availabilityZones":["2"],"osDiskSizeGB":128,"osDiskType":"Managed","gpuProfile":{"driver":"None"},"gpuInstanceProfile":"MIG1g",
		"maxPods":30,"vnetSubnetID":"/s","capacityReservationGroupID":"/c","nodeTaints":["sku=gpu:NoSchedule"],"tags":{"a":"b"}}}`,
		s.bodies[call],
	)
}

func TestAnotherProcessTakesUpAnOperationByItsToken(t *testing.T) {
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
		_, _ = io.WriteString(w, status) // the test fails anyway when it is not read
	})
	p, err := a.Poll(t.Context(), taken)
	require.NoError(t, err)
	assert.Equal(t, Progress{Next: 17 * time.Second}, p, "and Azure says when to come again")

	status = `{"status":"Succeeded"}`
	p, err = a.Poll(t.Context(), taken)
	require.NoError(t, err)
	assert.Equal(t, Progress{Done: true}, p)
	assert.Equal(
		t, []string{"PUT /agentPools/p", "GET /operations/1", "GET /operations/1"}, s.requests,
		"one call a look, and none for a result that nobody reads",
	)
}

func TestAFailedOperationIsClassifiedLikeARefusal(t *testing.T) {
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
			assert.Equal(t, ReasonCapacityUnavailable, p.Err.Reason)
			assert.Equal(t, "AllocationFailed: We do not have sufficient capacity.", p.Err.Error())
		})
	}
}

func TestAnOperationThatAzureForgotIsLost(t *testing.T) {
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

func TestThrottlingClosesTheBucketOnOurSide(t *testing.T) {
	s, a := newServer(t)
	s.on("GET ", 429, map[string]string{"Retry-After": "30"}, `{"error":{"code":"TooManyRequests","message":"slow down"}}`)
	_, err := a.Cluster(t.Context())
	require.True(t, Is(err, ClassThrottle))
	_, err = a.Cluster(t.Context())
	require.True(t, Is(err, ClassThrottle))
	assert.Len(t, s.requests, 1, "the second call never left")
}

func TestAClusterThatIsNotThereIsAWrongConfigurationAndNotAnAbsence(t *testing.T) {
	s, a := newServer(t)
	s.on("GET ", 404, nil, `{"error":{"code":"NotFound","message":"nothing here"}}`)
	_, err := a.Cluster(t.Context())
	require.True(t, Is(err, ClassConfig), err)
	assert.Equal(t, ReasonClusterNotFound, AsError(err).Reason)
}

func TestADroppedConnectionIsTransient(t *testing.T) {
	s, a := newServer(t)
	s.mux.HandleFunc(
		"PUT "+cluster+"/agentPools/p", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	)
	_, err := a.CreatePool(t.Context(), "p", Spec{Count: 1})
	assert.True(t, Is(err, ClassTransient), err)
}
