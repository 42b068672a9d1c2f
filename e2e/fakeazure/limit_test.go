// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

func TestCallsAreThrottledAsDocumented(t *testing.T) {
	a := newAzure(t, nil)
	for i := range 60 {
		_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
		require.NoError(t, err, "call %d", i+1)
	}
	_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	throttled := refused(t, err, http.StatusTooManyRequests, "Throttled")
	assert.Equal(t, "1", throttled.header.Get("Retry-After"))
	assert.Contains(t, throttled.text, "please retry again in 1 seconds")

	// Each pool has its own bucket of PUTs.
	for range 20 {
		_, err = a.beginPut("gpu1", gpuPool(a100, 1))
		if err != nil {
			refused(t, err, http.StatusConflict, "OperationNotAllowed")
		}
	}
	_, err = a.beginPut("gpu1", gpuPool(a100, 1))
	assert.Equal(t, "60", refused(t, err, http.StatusTooManyRequests, "Throttled").header.Get("Retry-After"))
	poller, err := a.beginPut("gpu2", gpuPool(a100, 1))
	require.NoError(t, err)

	for range 200 {
		err = look(t, poller)
		require.NoError(t, err)
	}
	err = look(t, poller)
	refused(t, err, http.StatusTooManyRequests, "Throttled")
	assert.Equal(t, 3, a.server.State().Throttled)

	a.clock.Step(time.Second)
	_, err = a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	require.NoError(t, err, "one token is added per second")
	_, err = a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	refused(t, err, http.StatusTooManyRequests, "Throttled")
	a.clock.Step(time.Minute)
	_, err = a.beginPut("gpu1", gpuPool(a100, 1))
	refused(t, err, http.StatusConflict, "OperationNotAllowed")
}

func TestOperationsContinueAfterARestart(t *testing.T) {
	options := fakeazure.Options{Dir: t.TempDir()}
	before := restart(t, options, start)
	put, err := before.beginPut("gpu1", gpuPool(a100, 2))
	require.NoError(t, err)
	token, err := put.ResumeToken()
	require.NoError(t, err)
	address := before.server.ARMEndpoint()
	before.clock.Step(2 * time.Minute)
	names := before.names("gpu1")
	require.NoError(t, before.server.Stop())

	after := restart(t, options, start.Add(2*time.Minute))
	assert.Equal(t, address, after.server.ARMEndpoint())
	resumed, err := after.pools.BeginCreateOrUpdate(
		t.Context(), after.group(), after.name(), "gpu1", gpuPool(a100, 2), resume(token),
	)
	require.NoError(t, err)
	err = look(t, resumed)
	require.NoError(t, err)
	assert.False(t, resumed.Done(), "a minute is left of it")
	assert.Equal(t, names, after.names("gpu1"))
	after.clock.Step(time.Minute)
	_, err = finish(t, resumed)
	require.NoError(t, err)
	assert.Equal(t, 0, after.server.State().Calls["putPool"], "no second request")
}

func TestClockThatStartsAgainKeepsDurations(t *testing.T) {
	options := fakeazure.Options{Dir: t.TempDir()}
	before := restart(t, options, start.Add(24*time.Hour))
	_, err := before.beginPut("gpu1", gpuPool(a100, 1))
	require.NoError(t, err)
	before.clock.Step(2 * time.Minute)
	require.NoError(t, before.server.Stop())
	after := restart(t, options, start)
	assert.Equal(t, "Creating", *after.get("gpu1").ProvisioningState)
	after.clock.Step(time.Minute)
	assert.Equal(t, "Succeeded", *after.get("gpu1").ProvisioningState)
}

func TestSDKWaitsForAnOperationOnAFastClock(t *testing.T) {
	server, err := fakeazure.New(fakeazure.Options{Clock: fakeazure.Accelerated(600), Limits: fakeazure.Limits{Off: true}})
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	client := newSDK(t, server, federatedToken(t, newKey(t), nil))
	o := server.Options()
	began := time.Now()
	poller, err := client.pools.BeginCreateOrUpdate(
		t.Context(), o.ResourceGroup, o.ClusterName, "gpu1", gpuPool(a100, 1), nil,
	)
	require.NoError(t, err)
	_, err = poller.PollUntilDone(t.Context(), &runtime.PollUntilDoneOptions{Frequency: time.Second})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond, "three minutes are 0.3 s at 600")
	assert.Len(t, server.State().Pools[0].Machines, 1)
}
