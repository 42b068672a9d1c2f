// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

func TestEachWriteIsRecorded(t *testing.T) {
	verdict := fakeazure.Serve
	a := newAzure(t, func(o *fakeazure.Options) {
		o.OnRequest = func(r fakeazure.Request) fakeazure.Verdict {
			if r.Write {
				return verdict
			}
			return fakeazure.Serve
		}
	})
	a.server.AddForeignPool("user", "Standard_D4s_v5", 1, map[string]string{"team": "platform"})
	_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	require.NoError(t, err)
	powerRead := a.clock.Now()
	a.mustPut("gpu1", gpuPool(a100, 1))
	a.server.SetPower(fakeazure.PowerStopping)
	_, err = a.beginPut("gpu1", gpuPool(a100, 2))
	refused(t, err, http.StatusConflict, "OperationNotAllowed")
	a.server.SetPower(fakeazure.PowerRunning)
	_, err = a.beginPut("moon", gpuPool("Standard_Moon", 1))
	refused(t, err, http.StatusBadRequest, "VMSizeNotSupported")
	verdict = fakeazure.DropBefore
	_, err = a.pools.BeginDelete(t.Context(), a.group(), a.name(), "user", nil)
	require.Error(t, err)
	verdict = fakeazure.DropAfter
	_, err = a.pools.BeginDelete(t.Context(), a.group(), a.name(), "user", nil)
	require.Error(t, err)

	later := powerRead.Add(time.Hour) // mustPut moves the clock by an hour
	test, platform := map[string]string{"owner": "test"}, map[string]string{"team": "platform"}
	assert.Equal(t, []fakeazure.Write{
		{
			Verb:       "putPool",
			Pool:       "gpu1",
			Tags:       test,
			Absent:     true,
			PowerState: "Running",
			PowerRead:  "Running",
			ReadAt:     powerRead,
			Time:       powerRead,
		},
		{
			Verb:       "putPool",
			Pool:       "gpu1",
			Tags:       test,
			Refused:    "OperationNotAllowed",
			PowerState: "Stopping",
			PowerRead:  "Running",
			ReadAt:     powerRead,
			Time:       later,
		},
		{
			Verb:       "putPool",
			Pool:       "moon",
			Tags:       test,
			Absent:     true,
			Refused:    "VMSizeNotSupported",
			PowerState: "Running",
			PowerRead:  "Running",
			ReadAt:     powerRead,
			Time:       later,
		},
		{
			Verb:       "deletePool",
			Pool:       "user",
			Tags:       platform,
			Refused:    fakeazure.Dropped,
			PowerState: "Running",
			PowerRead:  "Running",
			ReadAt:     powerRead,
			Time:       later,
		},
		{Verb: "deletePool", Pool: "user", Tags: platform, PowerState: "Running", PowerRead: "Running", ReadAt: powerRead, Time: later},
	}, a.server.State().Writes)
}

func TestUnfilledCountUsesNoQuota(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) {
		o.FamilyQuota = map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 48}}
	})
	a.server.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Kind: "AllocationFailed"})
	_, err := a.put("gpu1", gpuPool(a100, 2))
	failedWith(t, err, "AllocationFailed")
	require.EqualValues(t, 2, *a.get("gpu1").Count, "the count is the requested one")
	a.mustPut("gpu2", gpuPool(a100, 2))
	_, err = a.beginPut("gpu1", gpuPool(a100, 2))
	refused(t, err, http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota")
}

func TestWhoHoldsTheClockKnowsWhenTheNodesAreTold(t *testing.T) {
	side := &register{}
	a := newAzure(t, func(o *fakeazure.Options) { o.Nodes = side })
	a.mustPut("gpu1", gpuPool(a100, 3))
	require.NoError(t, a.server.Settle(t.Context()))
	assert.Len(t, side.all(), 3)
	a.server.RemovePool("gpu1")
	require.NoError(t, a.server.Settle(t.Context()))
	assert.Empty(t, side.all())
}
