// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/provisioner/weather"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// pace is about how long a step takes: enough for operators to get into the middle of something.
const pace = 400 * time.Millisecond

// steps of trouble for so many Workspaces.
func steps(n int) int { return 40 + n }

// action is a failure or a change of the stack. cards is its frequency.
type action struct {
	name  string
	cards int
	do    func(*world)
}

var actions = []action{
	{"an operator is killed", 7, (*world).kill},
	{"the API server crashes", 1, (*world).crashAPIServer},
	{"Azure does something wrong", 5, (*world).worsen},
	{"a machine is taken away", 1, (*world).evict},
	{"another client writes to a Workspace", 6, (*world).annotate},
	{"another client writes to a workload", 6, (*world).meddle},
	{"another client deletes a workload", 2, (*world).destroy},
	{"a pod is deleted", 3, (*world).deletePod},
	{"nothing", 4, func(*world) {}},
}

// trouble creates the guests and runs the actions. It checks the invariants after every step.
func (w *world) trouble() {
	w.Helper()
	var deck []action
	last := steps(len(w.guests))
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for w.step = 0; w.step < last; w.step++ {
		w.come(1 + len(w.guests)*2/last) // all have come when about half of the steps are over
		if len(deck) == 0 {
			deck = shuffled(w.seed, w.step)
		}
		// What a step does hangs on the seed and its number alone, and not on what those before it have found.
		w.random = chance(w.seed, w.step)
		w.done[deck[0].name]++
		deck[0].do(w)
		deck = deck[1:]
		for _, o := range stack.Operators { // in an order that is always the same
			if step, dead := w.down[o]; dead && step <= w.step {
				w.start(o)
			}
		}
		require.NoError(w, w.Health(), "an operator exited unexpectedly")
		w.look()
		select {
		case <-ticker.C:
		case <-w.Context().Done():
			require.NoError(w, w.Context().Err())
		}
	}
	require.True(w, w.guests[len(w.guests)-1].created, "everybody has come")
}

// shuffled is a deck in which every action is as often as it is to be: a run of one deck has seen all of them.
func shuffled(seed uint64, step int) []action {
	var deck []action
	for _, a := range actions {
		for range a.cards {
			deck = append(deck, a)
		}
	}
	chance(seed, -step).Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// calm ends the trouble.
func (w *world) calm() {
	w.Helper()
	w.Azure.ClearFaults()
	for _, id := range w.machines() {
		w.Azure.ChangeNode(fakeazure.NodeChange{ProviderID: id})
	}
	for _, o := range stack.Operators {
		if _, dead := w.down[o]; dead {
			w.start(o)
		}
	}
}

func (w *world) counted() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.done)) {
		out = append(out, fmt.Sprintf("%s %d times", name, w.done[name]))
	}
	return strings.Join(out, ", ")
}

// kill ends an operator as a crash would; it comes back some steps later.
func (w *world) kill() {
	o := pick(w.random, stack.Operators)
	if _, dead := w.down[o]; dead {
		return
	}
	require.NoError(w, w.KillOperator(o))
	w.down[o] = w.step + w.random.IntN(8)
}

func (w *world) start(o stack.Operator) {
	w.Helper()
	delete(w.down, o)
	require.NoError(w, w.Stack.Run(w.Context(), o))
}

func (w *world) crashAPIServer() { require.NoError(w, w.RestartAPIServer(w.Context())) }

// worsen has Azure fail one or two calls in a way of the mix that the provisioner's own chaos has. What a pool's calls
// meet is aimed at a size, so that it is known whose reason is true.
func (w *world) worsen() {
	f := pick(w.random, weather.Faults)
	f.Times = 1 + w.random.IntN(2)
	if f.Verb == "putPool" {
		f.Size = pick(w.random, []string{a100, v100})
	}
	w.befall(f.Size, reasonsOf(f)...)
	w.Azure.AddFault(f)
}

func (w *world) befall(size string, reasons ...string) {
	if w.befallen[size] == nil {
		w.befallen[size] = map[string]bool{}
	}
	for _, r := range reasons {
		w.befallen[size][r] = true
	}
}

// machines are ours, by provider id.
func (w *world) machines() []string {
	var out []string
	for _, pool := range w.Azure.State().Pools {
		if weather.Ours(pool.Tags) {
			out = append(out, pool.Machines...)
		}
	}
	return out
}

func (w *world) evict() {
	if machines := w.machines(); len(machines) > 0 {
		w.befall("", kaitov1alpha1.ReasonNodeLost, "MachineGone", "NodeGone", kaitov1alpha1.ReasonLaunchFailed)
		w.Azure.Evict(pick(w.random, machines))
	}
}

// annotate writes to a Workspace, once by a patch, once by an update that may lose against an operator's write.
func (w *world) annotate() {
	ws := &kaitov1alpha1.Workspace{}
	if !w.any(&kaitov1alpha1.WorkspaceList{}, ws) {
		return
	}
	text := fmt.Sprint(w.random.IntN(1000))
	if w.random.IntN(2) == 0 {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"example.com/note":"`+text+`"}}}`))
		w.harmless(w.Client.Patch(w.Context(), ws, patch))
		return
	}
	metav1.SetMetaDataLabel(&ws.ObjectMeta, "example.com/team", text)
	w.harmless(w.Client.Update(w.Context(), ws))
}

// meddle changes what a serving Deployment runs, as an autoscaler or a person would.
func (w *world) meddle() {
	d := &appsv1.Deployment{}
	if !w.any(&appsv1.DeploymentList{}, d) {
		return
	}
	if w.random.IntN(2) == 0 {
		zero := int32(0)
		d.Spec.Replicas = &zero
	} else {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, "example.com/note", fmt.Sprint(w.random.IntN(1000)))
	}
	w.harmless(w.Client.Update(w.Context(), d))
}

func (w *world) destroy() {
	d := &appsv1.Deployment{}
	if w.any(&appsv1.DeploymentList{}, d) {
		w.harmless(w.Client.Delete(w.Context(), d, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	}
}

func (w *world) deletePod() {
	p := &corev1.Pod{}
	if w.any(&corev1.PodList{}, p) {
		w.harmless(w.Client.Delete(w.Context(), p))
	}
}

// any puts one of the user's objects into obj; false when there is none.
func (w *world) any(list client.ObjectList, obj client.Object) bool {
	w.Helper()
	require.NoError(w, w.Client.List(w.Context(), list, client.InNamespace(stacktest.Namespace)))
	switch items := list.(type) {
	case *kaitov1alpha1.WorkspaceList:
		return choose(w, items.Items, obj.(*kaitov1alpha1.Workspace))
	case *appsv1.DeploymentList:
		return choose(w, items.Items, obj.(*appsv1.Deployment))
	case *corev1.PodList:
		return choose(w, items.Items, obj.(*corev1.Pod))
	}
	require.FailNow(w, "no such list")
	return false
}

func choose[T any](w *world, items []T, into *T) bool {
	if len(items) == 0 {
		return false
	}
	*into = pick(w.random, items)
	return true
}

// harmless: the operators may have been faster.
func (w *world) harmless(err error) {
	w.Helper()
	if !apierrors.IsConflict(err) {
		require.NoError(w, client.IgnoreNotFound(err))
	}
}
