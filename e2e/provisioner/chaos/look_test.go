// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/e2e/provisioner/invariant"
	"kaito.sh/e2e/provisioner/weather"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// ctx has no deadline: the API server responds at once or is dead.
var ctx = context.Background()

// kubelets keeps Nodes Ready or not Ready without heartbeats, with the taint that the control plane would set.
type kubelets struct {
	fakeazure.NodeSide
	nodes kubernetes.Interface
	clock *clocktesting.FakeClock
}

// Join sets the Node's state.
func (k *kubelets) Join(ctx context.Context, vm fakeazure.VM) error {
	if err := k.NodeSide.Join(ctx, vm); err != nil {
		return err
	}
	status := corev1.ConditionTrue
	if vm.NotReady {
		status = corev1.ConditionFalse
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := k.nodes.CoreV1().Nodes().Get(ctx, vm.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		notReady := func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }
		if vm.NotReady != slices.ContainsFunc(node.Spec.Taints, notReady) {
			node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, notReady)
			if vm.NotReady {
				node.Spec.Taints = append(
					node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule},
				)
			}
			if node, err = k.nodes.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		now := metav1.NewTime(k.clock.Now())
		said := corev1.NodeCondition{
			Type:               corev1.NodeReady,
			Status:             status,
			Reason:             "KubeletReady",
			LastHeartbeatTime:  now,
			LastTransitionTime: now,
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == status && c.Reason == said.Reason {
				return nil
			}
		}
		node.Status.Conditions = []corev1.NodeCondition{said}
		_, err = k.nodes.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

// Leave marks a Node with finalizers as one whose kubelet does not report, as the control plane does within a minute.
func (k *kubelets) Leave(ctx context.Context, vm fakeazure.VM) error {
	if err := k.NodeSide.Leave(ctx, vm); err != nil {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := k.nodes.CoreV1().Nodes().Get(ctx, vm.Name, metav1.GetOptions{})
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		now := metav1.NewTime(k.clock.Now())
		node.Status.Conditions = []corev1.NodeCondition{
			{
				Type:               corev1.NodeReady,
				Status:             corev1.ConditionUnknown,
				Reason:             "NodeStatusUnknown",
				LastHeartbeatTime:  now,
				LastTransitionTime: now,
			},
		}
		_, err = k.nodes.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return client.IgnoreNotFound(err)
	})
}

func list[L client.ObjectList](w *world, into L) L {
	w.t.Helper()
	require.NoError(w.t, shared.client.List(ctx, into))
	return into
}

func (w *world) listMachines() []karpenterv1alpha5.Machine {
	return list(w, &karpenterv1alpha5.MachineList{}).Items
}
func (w *world) listClaims() []karpv1.NodeClaim { return list(w, &karpv1.NodeClaimList{}).Items }
func (w *world) listNodes() []corev1.Node       { return list(w, &corev1.NodeList{}).Items }

// picture returns the state of the cloud and the cluster, which does not change meanwhile.
func (w *world) picture() invariant.Picture {
	w.t.Helper()
	p := weather.Picture(w.azure.State(), w.listClaims(), w.fair)
	p.Gone = w.api.gone(p.Claims)
	before := w.machines
	w.machines = map[string]bool{}
	for _, pool := range p.Pools {
		if !pool.Ours {
			continue
		}
		for _, m := range pool.Machines {
			if w.machines[m.ProviderID] = true; !before[m.ProviderID] {
				w.booted++
			}
		}
	}
	return p
}

// check checks the invariants and two more promises: a working claim that nothing has disturbed still exists, and
// resources of others are unchanged.
func (w *world) check() {
	w.t.Helper()
	w.excuseUpgrades()
	w.excuseRepairs()
	p := w.picture()
	broken := w.checker.Check(p)
	for i := range p.Gone {
		c := &p.Gone[i]
		if !w.checker.Released[c.Name] && !w.checker.Taken[c.Name] &&
			c.StatusConditions().IsTrue(karpv1.ConditionTypeRegistered) {
			broken = append(broken, "a live claim was lost: "+c.Name)
		}
	}
	for _, m := range w.listMachines() {
		lost := slices.ContainsFunc(p.Gone, func(c karpv1.NodeClaim) bool {
			return slices.ContainsFunc(c.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == m.UID })
		})
		ready := m.GetCondition(karpenterv1alpha5.ConditionReady)
		if lost && !w.checker.Released[m.Name] &&
			(ready == nil || ready.Status != corev1.ConditionFalse || ready.Reason == "") {
			broken = append(broken, fmt.Sprintf("I6: Machine %s lost its claim and keeps no evidence: %+v", m.Name, ready))
		}
	}
	there := map[string]int{}
	for _, pool := range p.Pools {
		if !pool.Ours {
			there[pool.Name] = len(pool.Machines)
		}
	}
	for name, machines := range w.foreign {
		if n, ok := there[name]; !ok || n != machines {
			broken = append(
				broken, fmt.Sprintf("pool %s of another owner has %d machines instead of %d", name, n, machines),
			)
		}
	}
	if len(broken) > 0 {
		require.FailNow(w.t, strings.Join(broken, "\n"), w.describe())
	}
}

// outcome is the expected end of a Machine.
type outcome string

const (
	ready   outcome = "Ready"
	refused outcome = "CapacityUnavailable"
)

// exactly returns deviations from the exact state: one Machine for each name; one claim, one machine and one Node for
// each that must be Ready; and nothing more.
func (w *world) exactly(want map[string]outcome) string {
	w.t.Helper()
	state := w.azure.State()
	if len(state.Running) > 0 {
		return fmt.Sprintf("operations run on %v", state.Running)
	}
	machines := map[string]bool{}
	for _, pool := range state.Pools {
		if !weather.Ours(pool.Tags) {
			continue
		}
		if pool.Count != len(pool.Machines) || len(pool.Machines) == 0 {
			return fmt.Sprintf("pool %s has count %d and %d machines", pool.Name, pool.Count, len(pool.Machines))
		}
		for _, id := range pool.Machines {
			machines[id] = true
		}
	}
	live, problem := w.exactMachines(want)
	if problem != "" {
		return problem
	}
	claims := w.listClaims()
	if len(claims) != live {
		return fmt.Sprintf("%d claims for %d live Machines", len(claims), live)
	}
	for i := range claims {
		id := claims[i].Status.ProviderID
		if !machines[id] {
			return fmt.Sprintf("claim %s names %q, which does not exist or which another claim names", claims[i].Name, id)
		}
		delete(machines, id)
	}
	if len(machines) > 0 {
		return fmt.Sprintf("no claim names %v", machines)
	}
	nodes := 0
	for _, n := range w.listNodes() {
		if _, foreign := w.foreign[n.Labels["agentpool"]]; !foreign {
			nodes++
		}
	}
	if nodes != live {
		return fmt.Sprintf("%d Nodes for %d live Machines", nodes, live)
	}
	return ""
}

// exactMachines returns the number of Ready Machines, and a deviation from the expected outcomes.
func (w *world) exactMachines(want map[string]outcome) (live int, problem string) {
	found := w.listMachines()
	if len(found) != len(want) {
		return 0, fmt.Sprintf("%d Machines are left, of %d", len(found), len(want))
	}
	for i := range found {
		m := &found[i]
		reason := outcome("")
		if c := m.GetCondition(karpenterv1alpha5.ConditionReady); c != nil {
			reason = outcome(c.Reason)
			if c.Status == corev1.ConditionTrue {
				reason = ready
			}
		}
		if reason != want[m.Name] {
			return 0, fmt.Sprintf("Machine %s is %s, not %s", m.Name, reason, want[m.Name])
		}
		if reason == ready {
			live++
		}
	}
	return live, ""
}

// ask creates Machines. release deletes them, like an owner that no longer needs the nodes.
func (w *world) ask(names ...string) {
	w.t.Helper()
	for _, name := range names {
		delete(w.checker.Released, name)
		require.NoError(w.t, shared.client.Create(ctx, installed.Machine(name, installed.A100, "on-demand")))
	}
}

func (w *world) release(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.checker.Released[name] = true
		require.NoError(
			w.t,
			client.IgnoreNotFound(
				shared.client.Delete(ctx, &karpenterv1alpha5.Machine{ObjectMeta: metav1.ObjectMeta{Name: name}}),
			),
		)
	}
}

func (w *world) addForeign(name string, machines int) {
	w.foreign[name] = machines
	w.azure.AddForeignPool(name, "Standard_D4s_v5", machines, map[string]string{"team": "platform"})
}

// writes returns the number of writes of a verb that took effect.
func (w *world) writes(verb string) int {
	n := 0
	for _, write := range w.azure.State().Accepted() {
		if write.Verb == verb {
			n++
		}
	}
	return n
}

// sweep deletes the objects that a world left in the cluster.
func sweep(t tester) {
	t.Helper()
	strip := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	for _, of := range []client.ObjectList{&karpenterv1alpha5.MachineList{}, &karpv1.NodeClaimList{}, &corev1.NodeList{}, &corev1.ConfigMapList{}} {
		opts := []client.ListOption{}
		if _, ok := of.(*corev1.ConfigMapList); ok {
			opts = append(
				opts, client.InNamespace(installed.Namespace),
				client.MatchingLabels{"app.kubernetes.io/managed-by": "gpu-provisioner"},
			)
		}
		require.NoError(t, shared.client.List(ctx, of, opts...))
		for _, o := range objects(t, of) {
			require.NoError(t, client.IgnoreNotFound(shared.client.Delete(ctx, o)))
			if len(o.GetFinalizers()) > 0 {
				require.NoError(t, client.IgnoreNotFound(shared.client.Patch(ctx, o, strip)))
			}
		}
	}
}

func objects(t tester, of client.ObjectList) []client.Object {
	t.Helper()
	var out []client.Object
	require.NoError(t, meta.EachListItem(of, func(o runtime.Object) error {
		out = append(out, o.(client.Object))
		return nil
	}))
	return out
}
