// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"testing"

	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/events"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// served creates claims with machines, and returns the name of their pool.
func (f *fixture) served(names ...string) string {
	f.t.Helper()
	f.ask(names...)
	f.pass()
	pool := f.only()
	f.azure.End(pool, nil, 0)
	f.pass()
	require.Len(f.t, f.bound(), len(names))
	return pool
}

// recorded returns the events so far.
func (f *fixture) recorded() []string {
	var out []string
	channel := f.Engine.Events.(*events.FakeRecorder).Events
	for {
		select {
		case e := <-channel:
			out = append(out, e)
		default:
			return out
		}
	}
}

func TestReplacedTagsAreToldOnTheClaimsAndTakenBack(t *testing.T) {
	f := newFixture(t)
	pool := f.served("c1")
	tags := f.azure.Spec(pool).Tags
	f.recorded()
	calls := len(f.azure.Calls())
	f.azure.Retag(pool, map[string]string{"cost center": "42"})
	f.Cache.Invalidate("")
	f.pass()
	c := f.claim("c1").StatusConditions().Get(ConditionPoolManaged)
	require.NotNil(t, c)
	assert.True(t, c.IsFalse())
	assert.Equal(t, karpenterv1alpha5.ReasonAgentPoolTagsReplaced, c.Reason)
	assert.Contains(
		t,
		c.Message,
		"az aks nodepool update --resource-group <resource group> --cluster-name <cluster> --name "+pool+
			" --tags 'cost center=42' kaito.sh_managed-by=gpu-provisioner kaito.sh_pool-key="+tags[azure.TagPoolKey],
	)
	told := f.recorded()
	require.Len(t, told, 1)
	assert.Contains(t, told[0], karpenterv1alpha5.ReasonAgentPoolTagsReplaced)
	assert.InDelta(t, 1, promtest.ToFloat64(f.Metrics.unmanaged.WithLabelValues(karpenterv1alpha5.ReasonAgentPoolTagsReplaced)), 0)
	view, _ := f.Cache.View()
	_, _, found := view.Machine(ProviderIDOf(f.claim("c1")))
	assert.True(t, found, "the machine runs, and is seen to run")
	assert.True(t, view.Complete)

	f.azure.Retag(pool, tags)
	f.Cache.Invalidate("")
	f.pass()
	assert.True(t, f.claim("c1").StatusConditions().Get(ConditionPoolManaged).IsTrue())
	assert.InDelta(t, 0, promtest.ToFloat64(f.Metrics.unmanaged.WithLabelValues(karpenterv1alpha5.ReasonAgentPoolTagsReplaced)), 0)
	assert.Len(t, f.azure.Calls(), calls, "nothing was written to Azure")
}

func TestReleasedClaimOfAPoolWithoutTagsWaits(t *testing.T) {
	f := newFixture(t)
	pool := f.served("c1")
	f.azure.Retag(pool, nil)
	f.Cache.Invalidate("")
	f.pass()
	calls := len(f.azure.Calls())
	require.NoError(t, f.client.Delete(t.Context(), f.claim("c1")))
	f.Release("uid-c1")
	f.pass()
	assert.Len(t, f.azure.Calls(), calls)
	assert.Equal(t, karpenterv1alpha5.ReasonAgentPoolTagsReplaced, f.claim("c1").StatusConditions().Get(ConditionPoolManaged).Reason)
}

func TestAutoscaledPoolIsReported(t *testing.T) {
	f := newFixture(t)
	pool := f.served("c1")
	f.azure.Autoscale(pool, true)
	f.ask("c2")
	f.pass()
	assert.Equal(t, []string{"create " + pool + " 1", "create " + pool[:len(pool)-1] + "1 1"}, f.azure.Calls())
	c := f.claim("c1").StatusConditions().Get(ConditionPoolManaged)
	require.NotNil(t, c)
	assert.Equal(t, karpenterv1alpha5.ReasonAgentPoolAutoscaled, c.Reason)
	assert.Contains(t, c.Message, "--name "+pool+" --disable-cluster-autoscaler")
	assert.InDelta(t, 1, promtest.ToFloat64(f.Metrics.unmanaged.WithLabelValues(karpenterv1alpha5.ReasonAgentPoolAutoscaled)), 0)
	assert.Nil(t, f.claim("c2").StatusConditions().Get(ConditionPoolManaged))
}

func TestCountOfAnAutoscaledPoolIsNotReset(t *testing.T) {
	w := newWorld()
	w.pool(keyA, 0, 3, 0).Autoscaled = true
	w.bound("c0", machineID("g"+keyA+"0", 0))
	w.again(Decide(w.State))
	w.again(Decide(w.State))
	assert.Empty(t, w.decide())
}

func TestOperationOfAPoolWithoutTagsIsDropped(t *testing.T) {
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

func TestPoolNamesAreRecognized(t *testing.T) {
	p := azure.Pool{Name: Name(Key{Size: a100}.Hash(), 12)}
	assert.True(t, p.TagsReplaced())
	assert.Equal(t, Key{Size: a100}.Hash(), azure.Cluster{}.OurTags(p.Name)[azure.TagPoolKey])
}
