// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/events"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// served asks for machines, and returns the pool that has them.
func (h *house) served(names ...string) string {
	h.t.Helper()
	h.ask(names...)
	h.pass()
	pool := h.only()
	h.azure.End(pool, nil, 0)
	h.pass()
	require.Len(h.t, h.bound(), len(names))
	return pool
}

// told are the events so far.
func (h *house) told() []string {
	var out []string
	recorded := h.Engine.Events.(*events.FakeRecorder).Events
	for {
		select {
		case e := <-recorded:
			out = append(out, e)
		default:
			return out
		}
	}
}

func TestReplacedTagsAreToldOnTheClaimsAndTakenBack(t *testing.T) {
	h := newHouse(t)
	pool := h.served("c1")
	tags := h.azure.Spec(pool).Tags
	h.told()
	calls := len(h.azure.Calls())
	h.azure.Retag(pool, map[string]string{"cost center": "42"})
	h.Cache.Invalidate("")
	h.pass()
	c := h.claim("c1").StatusConditions().Get(ConditionPoolManaged)
	require.NotNil(t, c)
	assert.True(t, c.IsFalse())
	assert.Equal(t, ReasonTagsReplaced, c.Reason)
	assert.Contains(
		t,
		c.Message,
		"az aks nodepool update --resource-group <resource group> --cluster-name <cluster> --name "+pool+
			" --tags 'cost center=42' kaito.sh_managed-by=gpu-provisioner kaito.sh_pool-key="+tags[azure.TagPoolKey],
	)
	told := h.told()
	require.Len(t, told, 1)
	assert.Contains(t, told[0], ReasonTagsReplaced)
	assert.InDelta(t, 1, promtest.ToFloat64(h.Metrics.unmanaged.WithLabelValues(ReasonTagsReplaced)), 0)
	view, _ := h.Cache.View()
	_, _, found := view.Machine(ProviderIDOf(h.claim("c1")))
	assert.True(t, found, "the machine runs, and is seen to run")
	assert.True(t, view.Complete)

	h.azure.Retag(pool, tags)
	h.Cache.Invalidate("")
	h.pass()
	assert.True(t, h.claim("c1").StatusConditions().Get(ConditionPoolManaged).IsTrue())
	assert.InDelta(t, 0, promtest.ToFloat64(h.Metrics.unmanaged.WithLabelValues(ReasonTagsReplaced)), 0)
	assert.Len(t, h.azure.Calls(), calls, "nothing was written to Azure")
}

func TestAReleasedClaimOfAPoolWithoutTagsIsLeftAlone(t *testing.T) {
	h := newHouse(t)
	pool := h.served("c1")
	h.azure.Retag(pool, nil)
	h.Cache.Invalidate("")
	h.pass()
	calls := len(h.azure.Calls())
	require.NoError(t, h.client.Delete(t.Context(), h.claim("c1")))
	h.Release("uid-c1")
	h.pass()
	assert.Len(t, h.azure.Calls(), calls)
	assert.Equal(t, ReasonTagsReplaced, h.claim("c1").StatusConditions().Get(ConditionPoolManaged).Reason)
}

func TestAnAutoscaledPoolIsToldAndTheNextIsOpened(t *testing.T) {
	h := newHouse(t)
	pool := h.served("c1")
	h.azure.Autoscale(pool, true)
	h.ask("c2")
	h.pass()
	assert.Equal(t, []string{"create " + pool + " 1", "create " + pool[:len(pool)-1] + "1 1"}, h.azure.Calls())
	c := h.claim("c1").StatusConditions().Get(ConditionPoolManaged)
	require.NotNil(t, c)
	assert.Equal(t, ReasonAutoscaled, c.Reason)
	assert.Contains(t, c.Message, "--name "+pool+" --disable-cluster-autoscaler")
	assert.InDelta(t, 1, promtest.ToFloat64(h.Metrics.unmanaged.WithLabelValues(ReasonAutoscaled)), 0)
	assert.Nil(t, h.claim("c2").StatusConditions().Get(ConditionPoolManaged))
}

func TestTheCountOfAnAutoscaledPoolIsLeftAlone(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 3, 0).Autoscaled = true
	w.bound("c0", machineID("g"+keyA+"0", 0))
	w.again(Decide(w.State))
	w.again(Decide(w.State))
	assert.Empty(t, w.decide())
}

func TestAnOperationOfAPoolThatLostItsTagsIsForgotten(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 1, 0).Tags = nil
	w.Operations["g"+keyA+"0"] = Operation{
		Handle: azure.Handle{Kind: azure.OperationPut, Pool: "g" + keyA + "0"},
		Key:    keyA,
		Target: 1,
		Ended:  start.Add(-1),
	}
	assert.Equal(t, []string{"g" + keyA + "0"}, Decide(w.State).Settled)
}

func TestTheNamesOfOurPoolsAreKnown(t *testing.T) {
	p := azure.Pool{Name: Name(Key{Size: a100}.Hash(), 12)}
	assert.True(t, p.TagsReplaced())
	assert.Equal(t, Key{Size: a100}.Hash(), azure.Cluster{}.OurTags(p.Name)[azure.TagPoolKey])
}
