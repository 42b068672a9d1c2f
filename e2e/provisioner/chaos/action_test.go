// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/e2e/provisioner/weather"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// storm is a world in which random actions happen.
type storm struct {
	*world
	serial int
	// tags are the tags of pools before a user replaced them.
	tags map[string]map[string]string
}

// actions are the actions that can happen between two rounds.
func (r *storm) actions() map[string]func(*rapid.T) {
	out := r.hands()
	maps.Copy(out, r.events())
	return out
}

// events are actions of owners, of Azure and of the process.
func (r *storm) events() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"Machines are created": func(t *rapid.T) {
			size := rapid.SampledFrom([]string{installed.A100, "Standard_NC6s_v3"}).Draw(t, "size")
			capacityType := rapid.SampledFrom([]string{"on-demand", "spot"}).Draw(t, "capacity type")
			for range rapid.IntRange(1, 3).Draw(t, "count") {
				r.serial++
				require.NoError(t, shared.client.Create(ctx, installed.Machine(fmt.Sprintf("ws%d", r.serial), size, capacityType)))
			}
		},
		"a NodeClaim is created": func(t *rapid.T) {
			r.serial++
			require.NoError(t, shared.client.Create(ctx, installed.NodeClaim(fmt.Sprintf("nc%d", r.serial), installed.A100)))
		},
		"a Machine is released":   func(t *rapid.T) { some(t, r.machines(), func(name string) { r.release(name) }) },
		"a NodeClaim is released": func(t *rapid.T) { some(t, r.claims(), r.releaseClaim) },
		"Azure fails": func(t *rapid.T) {
			f := rapid.SampledFrom(weather.Faults).Draw(t, "fault")
			f.Times = rapid.IntRange(0, 3).Draw(t, "times")
			r.unfair = true
			r.garbled = r.garbled || f.Empty || f.Short > 0
			r.azure.AddFault(f)
		},
		"Azure works":      func(*rapid.T) { r.recover() },
		"the process dies": func(*rapid.T) { r.crash() },
		"the process will die at a call": func(t *rapid.T) {
			r.dieAtCall(rapid.IntRange(1, 12).Draw(t, "call"), rapid.SampledFrom([]verdict{dieBefore, dieAfter}).Draw(t, "how"))
		},
		"the cluster stops or starts": func(t *rapid.T) {
			state := rapid.SampledFrom([]fakeazure.PowerState{fakeazure.PowerStopping, fakeazure.PowerStopped, fakeazure.PowerStarting, fakeazure.PowerRunning}).
				Draw(t, "power")
			r.unfair = true
			r.azure.SetPower(state)
		},
		"strangers make a pool": func(*rapid.T) {
			r.serial++
			r.addForeign(fmt.Sprintf("user%d", r.serial), 1)
		},
		"strangers delete their pool": func(t *rapid.T) {
			some(t, keys(r.foreign), func(name string) {
				delete(r.foreign, name)
				r.azure.RemovePool(name)
			})
		},
		"strangers delete a pool of the operator": func(t *rapid.T) {
			some(t, r.ours(), func(name string) {
				r.harm(func(id string) bool { return slices.Contains(r.machinesOf(name), id) })
				r.azure.RemovePool(name)
			})
		},
		"a machine is removed": func(t *rapid.T) {
			some(t, keys(r.world.machines), func(id string) {
				r.harm(func(other string) bool { return other == id })
				r.azure.Evict(id)
			})
		},
		"a Node is deleted by force": func(t *rapid.T) {
			some(t, r.nodes(), func(name string) { r.deleteNode(name, true) })
		},
		"a Node is deleted": func(t *rapid.T) { some(t, r.nodes(), func(name string) { r.deleteNode(name, false) }) },
		"a Node is not Ready": func(t *rapid.T) {
			some(t, keys(r.world.machines), func(id string) {
				r.harm(func(other string) bool { return other == id }) // node repair may replace it
				r.azure.ChangeNode(fakeazure.NodeChange{ProviderID: id, NotReady: true})
			})
		},
		"time passes": func(t *rapid.T) {
			r.step(time.Duration(rapid.IntRange(1, 180).Draw(t, "seconds"))*time.Second, command{})
		},
	}
}

// round runs each controller once, in a random order and with caches of a random age.
func (r *storm) round(t *rapid.T) {
	c := command{Steps: order}
	if rapid.IntRange(0, 3).Draw(t, "another order") == 0 {
		c.Steps = rapid.Permutation(order).Draw(t, "order")
	}
	switch rapid.IntRange(0, 7).Draw(t, "old caches") {
	case 0, 1:
		c.Stale = true
	case 2:
		c.Frozen = true
	}
	r.step(rapid.SampledFrom([]time.Duration{tick, tick, time.Second, tick / 2}).Draw(t, "time"), c)
}

// some calls a function with a random one of the elements, if there is one.
func some(t *rapid.T, names []string, do func(string)) {
	if len(names) > 0 {
		do(rapid.SampledFrom(names).Draw(t, "which"))
	}
}

func keys[V any](m map[string]V) []string {
	var out []string
	for key := range m {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// machines and claims return the names of those that are not released.
func (r *storm) machines() []string {
	var out []string
	for _, m := range r.listMachines() {
		if m.DeletionTimestamp.IsZero() {
			out = append(out, m.Name)
		}
	}
	return out
}

// claims returns the NodeClaims without a Machine.
func (r *storm) claims() []string {
	var out []string
	for _, c := range r.listClaims() {
		if c.DeletionTimestamp.IsZero() && len(c.OwnerReferences) == 0 {
			out = append(out, c.Name)
		}
	}
	return out
}

func (r *storm) releaseClaim(name string) {
	r.checker.Released[name] = true
	require.NoError(
		r.t, client.IgnoreNotFound(shared.client.Delete(ctx, &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}})),
	)
}

func (r *storm) machinesOf(pool string) []string {
	for _, p := range r.azure.State().Pools {
		if p.Name == pool {
			return p.Machines
		}
	}
	return nil
}

// harm records which claims may be deleted, because the test removes their machines or Nodes.
func (w *world) harm(hit func(providerID string) bool) {
	for _, c := range w.listClaims() {
		if hit(c.Status.ProviderID) || hit(c.Annotations["kaito.sh/provider-id"]) {
			w.checker.Taken[c.Name] = true
		}
	}
}

// nodes returns the Nodes of this operator.
func (r *storm) nodes() []string {
	var out []string
	for _, n := range r.listNodes() {
		if r.world.machines[n.Spec.ProviderID] {
			out = append(out, n.Name)
		}
	}
	return out
}

// deleteNode deletes a Node, by force or like Karpenter, which deletes its machine, too.
func (r *storm) deleteNode(name string, force bool) {
	node := &corev1.Node{}
	require.NoError(r.t, shared.client.Get(ctx, client.ObjectKey{Name: name}, node))
	if len(node.Finalizers) > 0 && !force {
		r.harm(func(id string) bool { return id == node.Spec.ProviderID })
	}
	if len(node.Finalizers) > 0 && force {
		require.NoError(
			r.t,
			shared.client.Patch(
				ctx,
				node,
				client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)),
			),
		)
	}
	require.NoError(r.t, client.IgnoreNotFound(shared.client.Delete(ctx, node)))
}

// served returns the Machines and claims that have neither a machine nor a reason.
func (r *storm) served() string {
	if state := r.azure.State(); len(state.Running) > 0 {
		return fmt.Sprintf("operations run on %v", state.Running)
	}
	left := map[string]bool{}
	for id := range r.world.machines {
		left[id] = true
	}
	for _, c := range r.listClaims() {
		if !c.DeletionTimestamp.IsZero() {
			return "claim " + c.Name + " is being deleted"
		}
		conditions := c.StatusConditions()
		if !left[c.Status.ProviderID] || !conditions.IsTrue(karpv1.ConditionTypeRegistered) {
			return fmt.Sprintf("claim %s has no machine", c.Name)
		}
		delete(left, c.Status.ProviderID)
	}
	if len(left) > 0 {
		return fmt.Sprintf("no claim names %v", keys(left))
	}
	for _, m := range r.listMachines() {
		if c := m.GetCondition(karpenterv1alpha5.ConditionReady); c == nil ||
			c.Status == corev1.ConditionUnknown && c.Reason != "AcceleratorNotReady" {
			return "Machine " + m.Name + " neither works nor has it failed"
		}
	}
	return ""
}
