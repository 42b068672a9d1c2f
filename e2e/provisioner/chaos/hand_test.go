// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/weather"
)

// hands are changes of agent pools by users, and by AKS on their behalf.
func (r *storm) hands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"a pool is upgraded": func(t *rapid.T) {
			some(t, r.ours(), func(name string) {
				r.upgrade(fakeazure.Upgrade{
					Pool:      name,
					NodeImage: rapid.Bool().Draw(t, "node image"),
					MaxSurge:  rapid.IntRange(1, 2).Draw(t, "max surge"),
					DeletesNodes: rapid.Bool().
						Draw(t, "deletes Nodes"),
					Undrainable: rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "undrainable"),
				})
			})
		},
		"the tags of a pool are replaced": func(t *rapid.T) {
			some(t, r.ours(), func(name string) {
				r.tags[name] = r.pool(name).Tags
				r.azure.RetagPool(name, map[string]string{"costcenter": "42"})
			})
		},
		"the tags of a pool are put back": func(t *rapid.T) {
			some(t, keys(r.tags), func(name string) {
				r.retag(name, r.tags[name])
				delete(r.tags, name)
			})
		},
		"the autoscaler of a pool is switched": func(t *rapid.T) {
			most := rapid.SampledFrom([]int{0, 5}).Draw(t, "most")
			some(t, r.ours(), func(name string) { r.azure.AutoscalePool(name, 0, most) })
		},
		"lists of machines lag": func(t *rapid.T) {
			r.unfair = true
			r.azure.ListLag(
				rapid.SampledFrom([]time.Duration{0, 5 * time.Second, 20 * time.Second, 20 * time.Second, 45 * time.Second}).
					Draw(t, "lag"),
			)
		},
	}
}

// ours returns the names of the pools with the operator's tags.
func (w *world) ours() []string {
	var out []string
	for _, p := range w.azure.State().Pools {
		if weather.Ours(p.Tags) {
			out = append(out, p.Name)
		}
	}
	return out
}

// pool returns an agent pool; its name is empty if it does not exist.
func (w *world) pool(name string) fakeazure.PoolState {
	for _, p := range w.azure.State().Pools {
		if p.Name == name {
			return p
		}
	}
	return fakeazure.PoolState{}
}

// retag restores a pool's tags, unless the pool was deleted or replaced.
func (w *world) retag(name string, tags map[string]string) {
	if p := w.pool(name); p.Name != "" && !weather.Ours(p.Tags) && w.foreign[name] == 0 {
		w.azure.RetagPool(name, tags)
	}
}

// upgrade starts an upgrade, unless AKS rejects it.
func (w *world) upgrade(u fakeazure.Upgrade) {
	before := w.pool(u.Pool).ProvisioningState
	w.azure.UpgradePool(u)
	if after := w.pool(u.Pool).ProvisioningState; before != after && u.DeletesNodes {
		w.rolling[u.Pool] = true
	}
}

// excuseUpgrades records which claims an upgrade may end: Karpenter deletes the claim of a Node that AKS deletes, and a
// Node that is not Ready together with a list that lacks its machine looks like a deleted machine.
func (w *world) excuseUpgrades() {
	for _, p := range w.azure.State().Pools {
		upgrading := strings.HasPrefix(p.ProvisioningState, "Upgrading")
		if w.rolling[p.Name] || upgrading && w.garbled {
			w.harm(func(id string) bool { return slices.Contains(p.Machines, id) })
		}
		if !upgrading {
			delete(w.rolling, p.Name)
		}
	}
}

// excuseRepairs records that node repair may replace the machine of a Node that is not Ready, for example because of a
// fault of Azure.
func (w *world) excuseRepairs() {
	for _, n := range w.listNodes() {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				w.harm(func(id string) bool { return id == n.Spec.ProviderID })
			}
		}
	}
}

func TestUpgradeWithSurgeKeepsAllClaims(t *testing.T) {
	for state, nodeImage := range map[string]bool{"Upgrading": false, "UpgradingNodeImageVersion": true} {
		t.Run(state, func(t *testing.T) {
			w, s := served(t, 2, nil)
			before := keys(w.machines)
			name := w.ours()[0]
			w.upgrade(fakeazure.Upgrade{Pool: name, NodeImage: nodeImage, MaxSurge: 1})
			require.Equal(t, state, w.pool(name).ProvisioningState)
			w.round()
			require.Len(t, w.pool(name).Surge, 1)
			s.ask(w, ready)
			w.until(
				"the new claim has a machine, and all others keep theirs", func() bool { return w.exactly(s.want) == "" },
			)
			for _, id := range before {
				assert.True(t, w.machines[id], "%s keeps its identity", id)
			}
			w.givenBack(s)
		})
	}
}

func TestReplacedTagsKeepTheClaimUntilTheyAreBack(t *testing.T) {
	w, s := served(t, 2, nil)
	name := w.ours()[0]
	tags, before := w.pool(name).Tags, w.pool(name).Machines
	w.azure.RetagPool(name, map[string]string{"costcenter": "42"})
	w.rounds(long)
	require.Len(t, w.listClaims(), 2)
	for _, m := range w.listMachines() {
		c := m.GetCondition("AgentPoolManaged")
		require.NotNil(t, c, "the owner gets the condition")
		assert.Equal(t, "AgentPoolTagsReplaced", c.Reason)
		assert.Contains(t, c.Message, "kaito.sh_pool-key="+tags["kaito.sh_pool-key"])
	}
	w.crash()
	s.release(w, 2)
	w.rounds(long)
	assert.Len(t, w.listClaims(), 2, "their machines run")
	assert.Equal(t, before, w.pool(name).Machines)
	w.azure.RetagPool(name, tags)
	w.until("the released nodes are deleted", func() bool { return w.exactly(s.want) == "" })
}

func TestAutoscaledPoolGetsASibling(t *testing.T) {
	w, s := served(t, 1, nil)
	name := w.ours()[0]
	w.azure.AutoscalePool(name, 1, 5)
	s.ask(w, ready)
	w.until("the new one has a machine in another pool", func() bool { return w.exactly(s.want) == "" })
	assert.Len(t, w.ours(), 2)
	assert.Len(t, w.pool(name).Machines, 1)
	for _, write := range w.azure.State().Writes {
		assert.Empty(t, write.Refused)
	}
	w.givenBack(s)
}
