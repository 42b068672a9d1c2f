// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/ptr"

	"kaito.sh/e2e/fakeazure"
)

func TestQuotaErrorHasTheFigures(t *testing.T) {
	const family = "StandardNCADSA100v4Family"
	cases := []struct {
		name  string
		set   func(*fakeazure.Options)
		spot  bool
		says  string
		usage string
	}{
		{"the family's", func(o *fakeazure.Options) {
			o.FamilyQuota = map[string]fakeazure.Quota{family: {Limit: 100, Used: 40}}
		}, false, "exceeding approved " + family + " Cores quota. Additional details - Deployment Model: Resource Manager, Location: eastus, " +
			"Current Limit: 100, Current Usage: 88, Additional Required: 24, (Minimum) New Limit Required: 112.", family},
		{
			"the region's",
			func(o *fakeazure.Options) { o.RegionalQuota = fakeazure.Quota{Limit: 60} },
			false,
			"exceeding approved Total Regional Cores quota. Additional details - Deployment Model: Resource Manager, Location: eastus, " +
				"Current Limit: 60, Current Usage: 48, Additional Required: 24, (Minimum) New Limit Required: 72.",
			"cores",
		},
		{
			"spot's",
			func(o *fakeazure.Options) { o.SpotQuota = fakeazure.Quota{Limit: 50} },
			true,
			"exceeding approved LowPriorityCores quota. Additional details - Deployment Model: Resource Manager, Location: eastus, " +
				"Current Limit: 50, Current Usage: 48, Additional Required: 24, (Minimum) New Limit Required: 72.",
			"lowPriorityCores",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := newAzure(t, c.set)
			body := gpuPool
			if c.spot {
				body = spotPool
			}
			a.mustPut("gpu1", body(a100, 2))
			_, err := a.beginPut("gpu1", body(a100, 3))
			assert.Contains(t, refused(t, err, http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota").text, c.says)
			assert.EqualValues(t, 2, *a.get("gpu1").Count)
			used, limit := a.usage(c.usage)
			assert.Positive(t, limit)
			a.mustPut("gpu1", body(a100, 1))
			less, _ := a.usage(c.usage)
			assert.Equal(t, used-24, less)
		})
	}
}

// usage is a row of the compute usages in the SDK's form.
func (a *azure) usage(name string) (used, limit int64) {
	a.t.Helper()
	pager := a.usages.NewListPager("eastus", nil)
	for pager.More() {
		page, err := pager.NextPage(a.t.Context())
		require.NoError(a.t, err)
		for _, u := range page.Value {
			if *u.Name.Value == name {
				return int64(*u.CurrentValue), *u.Limit
			}
		}
	}
	require.Fail(a.t, "there is no usage "+name)
	return 0, 0
}

func TestKindsReachTheSDKAsAzureTellsThem(t *testing.T) {
	cases := []struct {
		kind   string
		status int
		code   string
		says   string
	}{
		{"FamilyQuota", 400, "ErrCode_InsufficientVCPUQuota", "StandardNCADSA100v4Family Cores quota"},
		{"RegionalQuota", 400, "ErrCode_InsufficientVCPUQuota", "Total Regional Cores quota"},
		{"SpotQuota", 400, "OperationNotAllowed", "LowPriorityCores quota"},
		{"SKUNotAvailable", 409, "SkuNotAvailable", a100 + "' is currently not available in location 'eastus'"},
		{
			"VMSizeNotSupported",
			400,
			"VMSizeNotSupported",
			"Virtual Machine size: '" + a100 + "' is not supported for subscription",
		},
		{"OperationInProgress", 409, "OperationNotAllowed", "aka.ms/aks-pending-operation"},
		{"ETagMismatch", 412, "PreconditionFailed", "condition"},
		{"Throttled", 429, "Throttled", "please retry again in 5 seconds"},
		{"ServerError", 500, "InternalServerError", ""},
		{"ServiceUnavailable", 503, "ServerTimeout", ""},
		{"Forbidden", 403, "AuthorizationFailed", "Microsoft.ContainerService/managedClusters/agentPools/write"},
		{"Unauthorized", 401, "InvalidAuthenticationToken", ""},
		{"ClusterNotFound", 404, "ResourceNotFound", "managedClusters/kaito"},
		{"ResourceGroupNotFound", 404, "ResourceGroupNotFound", "Resource group 'kaito-rg'"},
		{"PoolNotFound", 404, "NotFound", "agent pool gpu1"},
		{"InvalidParameter", 400, "InvalidParameter", ""},
	}
	a := newAzure(t, func(o *fakeazure.Options) { o.Limits.Off = true })
	for _, c := range cases {
		t.Run(c.kind, func(t *testing.T) {
			a.server.AddFault(fakeazure.Fault{Verb: "putPool", Size: a100, Times: 1, Kind: c.kind})
			_, err := a.beginPut("gpu1", gpuPool(a100, 1))
			assert.Contains(t, refused(t, err, c.status, c.code).text, c.says)
			assert.Empty(t, a.server.State().Accepted(), "nothing was written")
		})
	}
}

func TestPartialAllocationFailureKeepsMachines(t *testing.T) {
	for _, kind := range []string{"AllocationFailed", "OverconstrainedAllocationRequest", "ZonalAllocationFailed", "OverconstrainedZonalAllocationRequest"} {
		t.Run(kind, func(t *testing.T) {
			a := newAzure(t, nil)
			a.server.AddFault(fakeazure.Fault{Kind: kind, Zone: "2", Fails: 2, Times: 1})
			a.mustPut("other", gpuPool(a100, 1))
			body := gpuPool(a100, 3)
			body.Properties.AvailabilityZones = []*string{ptr.To("2")}
			_, err := a.put("gpu1", body)
			failedWith(t, err, kind)
			assert.Len(t, a.names("gpu1"), 1)
			pool := a.get("gpu1")
			assert.Equal(t, "Failed", *pool.ProvisioningState)
			assert.EqualValues(t, 3, *pool.Count, "the count does not change")
			body.Properties.Count = ptr.To(int32(1))
			a.mustPut("gpu1", body)
			assert.Len(t, a.names("gpu1"), 1, "the count is set back without a machine lost")
		})
	}
}

func TestDeletingCanFailTooAndTakesNothing(t *testing.T) {
	a := newAzure(t, nil)
	a.mustPut("gpu1", gpuPool(a100, 2))
	a.server.AddFault(fakeazure.Fault{Verb: "deleteMachines", Times: 1, Kind: "ServerError", Async: true})
	poller, err := a.beginDeleteMachines("gpu1", a.names("gpu1")[0])
	require.NoError(t, err)
	a.clock.Step(time.Hour)
	_, err = finish(t, poller)
	failedWith(t, err, "InternalServerError")
	assert.Len(t, a.names("gpu1"), 2)
	assert.Equal(t, "Failed", *a.get("gpu1").ProvisioningState)
}

func TestConnectionIsCutBeforeOrAfterTheWrite(t *testing.T) {
	cases := []struct {
		name  string
		drop  fakeazure.Verdict
		pools int
	}{{"before", fakeazure.DropBefore, 0}, {"after", fakeazure.DropAfter, 1}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := newAzure(t, nil)
			a.server.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Drop: c.drop})
			_, err := a.beginPut("gpu1", gpuPool(a100, 1))
			require.Error(t, err)
			assert.Contains(t, err.Error(), "EOF")
			assert.Len(t, a.server.State().Pools, c.pools)
		})
		t.Run(c.name+", by a hook", func(t *testing.T) {
			a := newAzure(t, func(o *fakeazure.Options) {
				o.OnRequest = func(r fakeazure.Request) fakeazure.Verdict {
					if r.Write && r.Count == 1 {
						return c.drop
					}
					return fakeazure.Serve
				}
			})
			_, err := a.beginPut("gpu1", gpuPool(a100, 1))
			require.Error(t, err)
			assert.Len(t, a.server.State().Pools, c.pools)
		})
	}
}

func TestOperationHangsUntilItIsAborted(t *testing.T) {
	a := newAzure(t, nil)
	a.server.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Hang: true})
	poller, err := a.beginPut("gpu1", gpuPool(a100, 1))
	require.NoError(t, err)
	a.clock.Step(24 * time.Hour)
	err = look(t, poller)
	require.NoError(t, err)
	assert.False(t, poller.Done())
	_, err = a.pools.BeginAbortLatestOperation(t.Context(), a.group(), a.name(), "gpu1", nil)
	require.NoError(t, err)
	_, err = finish(t, poller)
	failedWith(t, err, "OperationPreempted")
}

func TestListFailsOnAPageInTheMiddle(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.PageSize = 2 })
	for _, name := range []string{"a1", "a2", "a3", "a4", "a5"} {
		a.server.AddForeignPool(name, a100, 0, nil)
	}
	a.server.AddFault(fakeazure.Fault{Verb: "listPools", Page: 2, Times: 1, Kind: "ServerError"})
	got, err := a.listPools(t.Context())
	refused(t, err, http.StatusInternalServerError, "InternalServerError")
	assert.Equal(t, []string{"a1", "a2"}, got)
	got, err = a.listPools(t.Context())
	require.NoError(t, err)
	assert.Len(t, got, 5)
}

func TestSkipAndTimesCountTheCallsThatALineMeets(t *testing.T) {
	a := newAzure(t, nil)
	a.server.AddFault(fakeazure.Fault{Verb: "getCluster", Skip: 1, Times: 2, Kind: "ServerError"})
	var failed []bool
	for range 5 {
		_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
		failed = append(failed, err != nil)
	}
	assert.Equal(t, []bool{false, true, true, false, false}, failed)
	a.server.AddFault(fakeazure.Fault{Kind: "ServerError"})
	a.server.ClearFaults()
	_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	assert.NoError(t, err)
}

func TestStoppedClusterRejectsWritesAndAllowsReads(t *testing.T) {
	cases := []struct {
		state              fakeazure.PowerState
		code, provisioning string
	}{
		{fakeazure.PowerStopping, "Running", "Stopping"},
		{fakeazure.PowerStopped, "Stopped", "Succeeded"},
		{fakeazure.PowerStarting, "Running", "Starting"},
	}
	a := newAzure(t, nil)
	a.mustPut("gpu1", gpuPool(a100, 1))
	for _, c := range cases {
		t.Run(string(c.state), func(t *testing.T) {
			a.server.SetPower(c.state)
			cluster, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
			require.NoError(t, err)
			assert.EqualValues(t, c.code, *cluster.Properties.PowerState.Code)
			assert.Equal(t, c.provisioning, *cluster.Properties.ProvisioningState)
			_, err = a.beginPut("gpu1", gpuPool(a100, 2))
			refused(t, err, http.StatusConflict, "OperationNotAllowed")
			_, err = a.pools.BeginDelete(t.Context(), a.group(), a.name(), "gpu1", nil)
			refused(t, err, http.StatusConflict, "OperationNotAllowed")
			assert.Len(t, a.names("gpu1"), 1)
		})
	}
	a.server.SetPower(fakeazure.PowerRunning)
	a.mustPut("gpu1", gpuPool(a100, 2))
	assert.Len(t, a.server.State().Accepted(), 2)
}

func TestInvalidLineIsRejected(t *testing.T) {
	assert.PanicsWithValue(t, `fakeazure: fails is 2 without an error that an operation ends with`, func() {
		newAzure(t, nil).server.AddFault(fakeazure.Fault{Verb: "putPool", Fails: 2, Kind: "ServerError"})
	})
}
