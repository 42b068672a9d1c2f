// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

const cluster = "/subscriptions/" + guidA + "/resourceGroups/ml/providers/Microsoft.ContainerService/managedClusters/ai"

func TestPoolListFailsWhenAPageFails(t *testing.T) {
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

func TestMachinesHaveTheProviderIDOfTheirNodes(t *testing.T) {
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

func TestResizeSendsThePoolBackWithItsETag(t *testing.T) {
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
	assert.EqualValues(t, 128, sent.Properties["osDiskSizeGB"], "everything else is kept")
	assert.Len(t, sent.Properties["tags"], 3)
	for _, readOnly := range []string{"eTag", "provisioningState", "nodeImageVersion", "currentOrchestratorVersion"} {
		assert.NotContains(t, sent.Properties, readOnly)
	}
}

func TestCreatePoolSendsTheSpecAndOverwritesNothing(t *testing.T) {
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

func TestThrottlingBlocksTheBucket(t *testing.T) {
	s, a := newServer(t)
	s.on("GET ", 429, map[string]string{"Retry-After": "30"}, `{"error":{"code":"TooManyRequests","message":"slow down"}}`)
	_, err := a.Cluster(t.Context())
	require.True(t, Is(err, ClassThrottle))
	_, err = a.Cluster(t.Context())
	require.True(t, Is(err, ClassThrottle))
	assert.Len(t, s.requests, 1, "the second call never left")
}

func TestMissingClusterIsAWrongConfiguration(t *testing.T) {
	s, a := newServer(t)
	s.on("GET ", 404, nil, `{"error":{"code":"NotFound","message":"nothing here"}}`)
	_, err := a.Cluster(t.Context())
	require.True(t, Is(err, ClassConfig), err)
	assert.Equal(t, karpenterv1alpha5.ReasonClusterNotFound, AsError(err).Reason)
}

func TestDroppedConnectionIsTransient(t *testing.T) {
	s, a := newServer(t)
	s.mux.HandleFunc(
		"PUT "+cluster+"/agentPools/p", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	)
	_, err := a.CreatePool(t.Context(), "p", Spec{Count: 1})
	assert.True(t, Is(err, ClassTransient), err)
}
