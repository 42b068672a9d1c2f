// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/ptr"

	"kaito.sh/e2e/fakeazure"
)

func TestPoolLifecycle(t *testing.T) {
	a := newAzure(t, nil)
	poller, err := a.beginPut("gpu1", gpuPool(a100, 2))
	require.NoError(t, err)
	err = look(t, poller)
	require.NoError(t, err)
	require.False(t, poller.Done())
	assert.Equal(t, "Creating", *a.get("gpu1").ProvisioningState)
	assert.Empty(t, a.names("gpu1"), "a VM that has not booted is not listed")

	a.clock.Step(time.Minute)
	assert.Len(t, a.names("gpu1"), 2, "machines are there before the operation ends")
	a.clock.Step(2 * time.Minute)
	made, err := finish(t, poller)
	require.NoError(t, err)
	assert.Equal(t, "Succeeded", *made.Properties.ProvisioningState)
	assert.Equal(t, "test", *made.Properties.Tags["owner"])
	assert.Equal(t, a100, *made.Properties.VMSize)
	names := a.names("gpu1")
	assert.Regexp(t, `^aks-gpu1-\d{8}-vmss[0-9a-z]{6}$`, names[0])
	one, err := a.machines.Get(t.Context(), a.group(), a.name(), "gpu1", names[0], nil)
	require.NoError(t, err)
	assert.Contains(
		t, *one.Properties.ResourceID, "/resourceGroups/MC_kaito-rg_kaito_eastus/", "ARM keeps the group's letter case",
	)
	assert.Equal(
		t,
		"azure://"+strings.ReplaceAll(*one.Properties.ResourceID, "MC_kaito-rg_kaito_eastus", "mc_kaito-rg_kaito_eastus"),
		a.server.State().Pools[0].Machines[0],
	)

	gone, err := a.beginDeleteMachines("gpu1", names[0])
	require.NoError(t, err)
	a.clock.Step(time.Hour)
	_, err = finish(t, gone)
	require.NoError(t, err)
	assert.Equal(t, names[1:], a.names("gpu1"))
	assert.EqualValues(t, 1, *a.get("gpu1").Count)

	bye, err := a.pools.BeginDelete(t.Context(), a.group(), a.name(), "gpu1", nil)
	require.NoError(t, err)
	assert.Equal(t, "Deleting", *a.get("gpu1").ProvisioningState)
	a.clock.Step(time.Hour)
	_, err = finish(t, bye)
	require.NoError(t, err)
	_, err = a.pools.Get(t.Context(), a.group(), a.name(), "gpu1", nil)
	refused(t, err, http.StatusNotFound, "NotFound")
	var verbs []string
	for _, w := range a.server.State().Accepted() {
		verbs = append(verbs, w.Verb)
	}
	assert.Equal(t, []string{"putPool", "deleteMachines", "deletePool"}, verbs)
}

func TestWriteWithAnOldETagIsRejected(t *testing.T) {
	a := newAzure(t, nil)
	old := *a.mustPut("gpu1", gpuPool(a100, 1)).Properties.ETag
	a.mustPut("gpu1", gpuPool(a100, 2))
	put := func(o armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions) error {
		_, err := a.pools.BeginCreateOrUpdate(t.Context(), a.group(), a.name(), "gpu1", gpuPool(a100, 3), &o)
		return err
	}
	refused(
		t, put(armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfMatch: &old}), http.StatusPreconditionFailed,
		"PreconditionFailed",
	)
	refused(
		t, put(armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfNoneMatch: ptr.To("*")}),
		http.StatusPreconditionFailed, "PreconditionFailed",
	)
	_, err := a.pools.BeginDelete(
		t.Context(), a.group(), a.name(), "gpu1", &armcontainerservice.AgentPoolsClientBeginDeleteOptions{IfMatch: &old},
	)
	refused(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
	assert.EqualValues(t, 2, *a.get("gpu1").Count)
	assert.NoError(t, put(armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfMatch: a.get("gpu1").ETag}))
}

func TestOnePoolHasOneOperationAtATime(t *testing.T) {
	a := newAzure(t, nil)
	_, err := a.beginPut("gpu1", gpuPool(a100, 1))
	require.NoError(t, err)
	_, err = a.beginPut("gpu1", gpuPool(a100, 2))
	assert.Contains(t, refused(t, err, http.StatusConflict, "OperationNotAllowed").text, "aka.ms/aks-pending-operation")
	_, err = a.pools.BeginDelete(t.Context(), a.group(), a.name(), "gpu1", nil)
	refused(t, err, http.StatusConflict, "OperationNotAllowed")
	_, err = a.beginPut("gpu2", gpuPool(a100, 1))
	require.NoError(t, err)
	assert.Equal(t, []string{"gpu1", "gpu2"}, a.server.State().Running)
}

func TestAbortedOperationEnds(t *testing.T) {
	a := newAzure(t, nil)
	put, err := a.beginPut("gpu1", gpuPool(a100, 1))
	require.NoError(t, err)
	abort, err := a.pools.BeginAbortLatestOperation(t.Context(), a.group(), a.name(), "gpu1", nil)
	require.NoError(t, err)
	a.clock.Step(time.Minute)
	_, err = finish(t, abort)
	require.NoError(t, err)
	assert.Equal(t, "Canceled", *a.get("gpu1").ProvisioningState)
	_, err = finish(t, put)
	failedWith(t, err, "OperationPreempted")
	a.mustPut("gpu1", gpuPool(a100, 2))
	assert.Len(t, a.names("gpu1"), 2)
}

func TestInvalidPoolIsRejected(t *testing.T) {
	cases := []struct {
		name, pool string
		change     func(*armcontainerservice.ManagedClusterAgentPoolProfileProperties)
		code, says string
	}{
		{name: "a name in capitals", pool: "Gpu", code: "InvalidParameter", says: "name"},
		{name: "a name that is too long", pool: "g234567890123", code: "InvalidParameter", says: "name"},
		{
			name:   "no size",
			pool:   "gpu",
			change: func(p *armcontainerservice.ManagedClusterAgentPoolProfileProperties) { p.VMSize = nil },
			code:   "InvalidParameter",
			says:   "vmSize",
		},
		{
			name:   "too many nodes",
			pool:   "gpu",
			change: func(p *armcontainerservice.ManagedClusterAgentPoolProfileProperties) { p.Count = ptr.To(int32(1001)) },
			code:   "InvalidParameter",
			says:   "count",
		},
		{
			name: "another size",
			pool: "old",
			change: func(p *armcontainerservice.ManagedClusterAgentPoolProfileProperties) {
				p.VMSize = ptr.To("Standard_NC96ads_A100_v4")
			},
			code: "PropertyChangeNotAllowed",
			says: "properties.vmSize",
		},
		{
			name: "other zones",
			pool: "old",
			change: func(p *armcontainerservice.ManagedClusterAgentPoolProfileProperties) {
				p.AvailabilityZones = []*string{ptr.To("1")}
			},
			code: "PropertyChangeNotAllowed",
			says: "properties.availabilityZones",
		},
	}
	a := newAzure(t, nil)
	a.mustPut("old", gpuPool(a100, 0))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body := gpuPool(a100, 1)
			if c.change != nil {
				c.change(body.Properties)
			}
			_, err := a.beginPut(c.pool, body)
			assert.Contains(t, refused(t, err, http.StatusBadRequest, c.code).text, c.says)
			assert.Len(t, a.server.State().Pools, 1)
		})
	}
}

func TestClusterHasAHundredPoolsInPages(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.PageSize = 30; o.Limits.Off = true })
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("p%02d", i)
		_, err := a.beginPut(name, gpuPool(a100, 0))
		require.NoError(t, err)
		want = append(want, name)
	}
	_, err := a.beginPut("more", gpuPool(a100, 0))
	refused(t, err, http.StatusBadRequest, "InvalidParameter")
	got, err := a.listPools(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, 4, a.server.State().Calls["listPools"])
}

func TestMachinesThatAreNotThereCannotBeDeleted(t *testing.T) {
	a := newAzure(t, nil)
	a.mustPut("gpu1", gpuPool(a100, 1))
	_, err := a.beginDeleteMachines("gpu1", a.names("gpu1")[0], "aks-gpu1-31415926-vmss00000z")
	refused(t, err, http.StatusBadRequest, "InvalidParameter")
	assert.Len(t, a.names("gpu1"), 1)
}

func TestMissingResourcesHaveDistinctErrors(t *testing.T) {
	a := newAzure(t, nil)
	_, err := a.clusters.Get(t.Context(), "elsewhere", a.name(), nil)
	refused(t, err, http.StatusNotFound, "ResourceGroupNotFound")
	_, err = a.clusters.Get(t.Context(), a.group(), "another", nil)
	refused(t, err, http.StatusNotFound, "ResourceNotFound")
	_, err = a.pools.Get(t.Context(), a.group(), a.name(), "none", nil)
	refused(t, err, http.StatusNotFound, "NotFound")
	poller, err := a.pools.BeginDelete(t.Context(), a.group(), a.name(), "none", nil)
	require.NoError(t, err)
	assert.True(t, poller.Done())
	assert.Empty(t, a.server.State().Accepted())
}
