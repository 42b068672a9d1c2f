// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/ptr"

	"kaito.sh/e2e/fakeazure"
)

func TestListOfMachinesLags(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.Durations = short })
	a.server.ListLag(20 * time.Second)
	_, err := a.beginPut("gpu1", gpuPool(a100, 2))
	require.NoError(t, err)
	a.clock.Step(29 * time.Second)
	assert.Empty(t, a.names("gpu1"), "listed 10 s after the write, and 20 s later")
	assert.Len(t, a.state("gpu1").Machines, 2, "they exist")
	a.clock.Step(time.Second)
	all := a.names("gpu1")
	require.Len(t, all, 2)

	_, err = a.beginDeleteMachines("gpu1", all[0])
	require.NoError(t, err)
	a.clock.Step(20 * time.Second)
	assert.Equal(t, all, a.names("gpu1"), "the deleted machine is still listed")
	assert.EqualValues(t, 1, *a.get("gpu1").Count)
	_, err = a.beginDeleteMachines("gpu1", all[0])
	refused(t, err, 400, "InvalidParameter")
	a.clock.Step(20 * time.Second)
	assert.Equal(t, all[1:], a.names("gpu1"))
}

func TestListIs200WithoutAllEntries(t *testing.T) {
	a := newAzure(t, func(o *fakeazure.Options) { o.PageSize = 2 })
	a.mustPut("gpu1", gpuPool(a100, 3))
	all := a.names("gpu1")
	a.server.AddFault(fakeazure.Fault{Verb: "listMachines", Pool: "gpu1", Empty: true, Times: 1})
	assert.Empty(t, a.names("gpu1"))
	a.server.AddFault(fakeazure.Fault{Verb: "listMachines", Short: 1})
	assert.Equal(t, all[:2], a.names("gpu1"))
	a.server.ClearFaults()
	assert.Equal(t, all, a.names("gpu1"))
	a.server.AddFault(fakeazure.Fault{Verb: "listPools", Short: 1})
	pools, err := a.listPools(t.Context())
	require.NoError(t, err)
	assert.Empty(t, pools)
}

func TestListOfMachinesWithoutResourceIDs(t *testing.T) {
	a := newAzure(t, nil)
	a.mustPut("gpu1", gpuPool(a100, 2))
	a.server.AddFault(fakeazure.Fault{Verb: "listMachines", NoResourceID: 1})
	page, err := a.machines.NewListPager(a.group(), a.name(), "gpu1", nil).NextPage(t.Context())
	require.NoError(t, err)
	require.Len(t, page.Value, 2)
	assert.Nil(t, page.Value[0].Properties.ResourceID)
	assert.NotNil(t, page.Value[1].Properties.ResourceID)
}

func TestListOfMachinesIs404(t *testing.T) {
	a := newAzure(t, nil)
	a.mustPut("gpu1", gpuPool(a100, 1))
	a.server.AddFault(fakeazure.Fault{Verb: "listMachines", Kind: "PoolNotFound"})
	_, err := a.machines.NewListPager(a.group(), a.name(), "gpu1", nil).NextPage(t.Context())
	refused(t, err, 404, "NotFound")
	pools, err := a.listPools(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"gpu1"}, pools)
}

func TestTagsAreReplacedByAPerson(t *testing.T) {
	a := newAzure(t, nil)
	before := a.mustPut("gpu1", gpuPool(a100, 1))
	a.server.RetagPool("gpu1", map[string]string{"costcenter": "42"})
	after := a.get("gpu1")
	assert.Equal(t, map[string]*string{"costcenter": ptr.To("42")}, after.Tags)
	assert.NotEqual(t, *before.Properties.ETag, *after.ETag)
}

func TestAutoscaledPoolRejectsAnotherCount(t *testing.T) {
	a := newAzure(t, nil)
	a.mustPut("gpu1", gpuPool(a100, 1))
	a.server.AutoscalePool("gpu1", 1, 5)
	body := a.get("gpu1")
	assert.True(t, *body.EnableAutoScaling)
	assert.EqualValues(t, 5, *body.MaxCount)
	put := gpuPool(a100, 2)
	put.Properties.EnableAutoScaling, put.Properties.MinCount, put.Properties.MaxCount = ptr.To(true), ptr.To(
		int32(1),
	), ptr.To(int32(5))
	_, err := a.beginPut("gpu1", put)
	assert.Contains(t, refused(t, err, 400, "BadRequest").text, "Cannot manually scale")
	assert.True(t, a.state("gpu1").Autoscaled)
	a.server.AutoscalePool("gpu1", 0, 0)
	a.mustPut("gpu1", gpuPool(a100, 2))
	assert.Len(t, a.names("gpu1"), 2)
}

func TestStatusOfAnOperationIs404(t *testing.T) {
	for kind, answer := range map[string]struct {
		status int
		code   string
	}{"OperationNotFound": {404, "OperationNotFound"}, "OperationForgotten": {404, ""}, "OperationGone": {410, "Gone"}} {
		t.Run(kind, func(t *testing.T) {
			a := newAzure(t, nil)
			poller, err := a.beginPut("gpu1", gpuPool(a100, 1))
			require.NoError(t, err)
			a.server.AddFault(fakeazure.Fault{Verb: "operation", Kind: kind})
			refused(t, look(t, poller), answer.status, answer.code)
			a.clock.Step(time.Hour)
			assert.Equal(t, "Succeeded", *a.get("gpu1").ProvisioningState, "the pool has the state")
		})
	}
}
