// SPDX-License-Identifier: Apache-2.0

package provisioner_test

import (
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/e2e/provisioner/invariant"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

// ask creates Machines like the workspace-operator.
func (w *world) ask(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.create(name, a100, "on-demand")
	}
}

func (w *world) create(name, size, capacityType string) {
	w.t.Helper()
	require.NoError(w.t, w.client.Create(w.t.Context(), installed.Machine(name, size, capacityType)))
}

// release deletes Machines, like an owner that no longer needs the nodes.
func (w *world) release(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.mu.Lock()
		w.checker.Released[name] = true
		w.mu.Unlock()
		require.NoError(
			w.t, w.client.Delete(w.t.Context(), &karpenterv1alpha5.Machine{ObjectMeta: metav1.ObjectMeta{Name: name}}),
		)
	}
}

func (w *world) machine(name string) *karpenterv1alpha5.Machine {
	m := &karpenterv1alpha5.Machine{}
	err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, m)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(w.t, err)
	return m
}

func (w *world) condition(name, conditionType string) karpenterv1alpha5.Condition {
	if m := w.machine(name); m != nil {
		if c := m.GetCondition(conditionType); c != nil {
			return *c
		}
	}
	return karpenterv1alpha5.Condition{}
}

func (w *world) ready(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.eventually(name+" is Ready", func() bool {
			return w.condition(name, karpenterv1alpha5.ConditionReady).Status == corev1.ConditionTrue
		})
	}
}

func (w *world) fails(name, conditionType, reason string) karpenterv1alpha5.Condition {
	w.t.Helper()
	w.eventually(name+": "+conditionType+" is False with "+reason, func() bool {
		c := w.condition(name, conditionType)
		return c.Status == corev1.ConditionFalse && c.Reason == reason
	})
	return w.condition(name, conditionType)
}

func (w *world) away(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.eventually(name+" is gone", func() bool { return w.machine(name) == nil })
	}
}

// empty waits for I3.
func (w *world) empty() {
	w.t.Helper()
	w.eventually("no claim and no pool is left", func() bool {
		p, ok := w.picture()
		return ok && len(p.Claims) == 0 && len(invariant.Empty(p)) == 0
	})
}

func (w *world) claim(name string) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{}
	err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, c)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(w.t, err)
	return c
}

// writes returns the number of writes of a verb that Azure has accepted so far.
func (w *world) writes(verb string) int {
	n := 0
	for _, write := range w.azure.State().Accepted() {
		if write.Verb == verb {
			n++
		}
	}
	return n
}

func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	require.Eventually(w.t, condition, journey, eventually.StoryTick, what)
}
