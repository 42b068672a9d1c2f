// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/eventually"
)

func TestWhatSomebodyChangesIsPutBackByOneWrite(t *testing.T) {
	start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "edited"))
	key := client.ObjectKeyFromObject(w)
	deployment := func(c require.TestingT) *appsv1.Deployment {
		d := &appsv1.Deployment{}
		require.NoError(c, shared.client.Get(t.Context(), key, d))
		return d
	}
	service := func(c require.TestingT) *corev1.Service {
		s := &corev1.Service{}
		require.NoError(c, shared.client.Get(t.Context(), key, s))
		return s
	}
	wanted, wantedPorts := deployment(t).Spec, service(t).Spec.Ports
	for _, test := range []struct {
		name string
		edit func() error
	}{
		{"the Deployment is scaled by kubectl scale", func() error {
			return shared.client.SubResource("scale").Update(t.Context(), deployment(t), client.WithSubResourceBody(&autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: w.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}))
		}},
		{"an image is set", func() error {
			d := deployment(t)
			before := d.DeepCopy()
			d.Spec.Template.Spec.Containers[0].Image = "example.com/other:1"
			return shared.client.Patch(t.Context(), d, client.MergeFrom(before))
		}},
		{"a whole Deployment is replaced", func() error {
			return retry.RetryOnConflict(retry.DefaultRetry, func() error { // its status may just be written
				d := deployment(t)
				d.Spec.Replicas = ptr.To[int32](0)
				d.Spec.Template.Spec.Containers[0].Args = []string{"--other"}
				return shared.client.Update(t.Context(), d)
			})
		}},
		{"another applies by force", func() error {
			return shared.client.Patch(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: w.Namespace}},
				client.RawPatch(types.ApplyPatchType, []byte(`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2}}`)), client.ForceOwnership, client.FieldOwner("gitops"))
		}},
		{"a port of the Service is changed", func() error {
			s := service(t)
			before := s.DeepCopy()
			s.Spec.Ports[0].TargetPort = intstr.FromInt32(9)
			return shared.client.Patch(t.Context(), s, client.MergeFrom(before))
		}},
	} {
		mark := mark(t)
		require.NoError(t, test.edit(), test.name)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			assert.Equal(c, wanted, deployment(c).Spec)
			assert.Equal(c, wantedPorts, service(c).Spec.Ports)
		}, eventually.Long, eventually.Tick, test.name)
		applied := func() []audit.Request {
			var out []audit.Request
			for _, r := range calls(t, mark) {
				if r.Resource != "workspaces" && r.Resource != "events" { // they tell that the engine starts again
					out = append(out, r)
				}
			}
			return out
		}
		eventually.Never(t, func() bool { return len(applied()) > 1 }, test.name)
		assert.Len(t, applied(), 1, test.name)
	}
}

// A mutating webhook, or a person, may add what the operator does not set: that stays, and costs one write at most.
func TestWhatTheOperatorDoesNotSetIsLeftToOthers(t *testing.T) {
	start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "extended"))
	d := &appsv1.Deployment{}
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), d))
	before, mark := d.DeepCopy(), mark(t)
	d.Spec.Template.Spec.PriorityClassName = "system-cluster-critical"
	require.NoError(t, shared.client.Patch(t.Context(), d, client.MergeFrom(before)))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		applied := 0
		for _, r := range calls(c, mark) {
			if r.Resource == "deployments" {
				applied++
			}
		}
		assert.Equal(c, 1, applied)
	}, eventually.Long, eventually.Tick)
	eventually.Never(t, func() bool {
		applied := 0
		for _, r := range calls(t, mark) {
			if r.Resource == "deployments" {
				applied++
			}
		}
		return applied > 1
	}, "it is put right a second time")
	require.NoError(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), d))
	assert.Equal(t, "system-cluster-critical", d.Spec.Template.Spec.PriorityClassName)
}

func TestWhatSomebodyDeletesIsMadeAgain(t *testing.T) {
	start(t, options())
	w := ready(t, inferenceWorkspace(newNamespace(t), "deleted"))
	key := client.ObjectKeyFromObject(w)
	for _, obj := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}} {
		require.NoError(t, shared.client.Get(t.Context(), key, obj))
		uid := obj.GetUID()
		require.NoError(t, shared.client.Delete(t.Context(), obj))
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, shared.client.Get(t.Context(), key, obj))
			assert.NotEqual(c, uid, obj.GetUID())
		}, eventually.Long, eventually.Tick)
	}
	machine := machinesOf(t, w)[0]
	require.NoError(t, shared.client.Delete(t.Context(), &machine))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		again := machinesOf(t, w)
		require.Len(c, again, 1)
		assert.NotEqual(c, machine.UID, again[0].UID)
	}, eventually.Long, eventually.Tick)
	again := machinesOf(t, w)[0]
	launch(t, &again, "1")
	eventuallyWorkspace(t, w, func(c *assert.CollectT, w *kaitov1alpha1.Workspace) {
		hasCondition(c, w, kaitov1alpha1.ConditionReady, metav1.ConditionTrue, kaitov1alpha1.ReasonReady)
	})
}

// The same, for a model over several nodes: its engine is a StatefulSet, and a Service without an address names its
// pods.
func TestChangedEngineOverSeveralNodesIsRestored(t *testing.T) {
	start(t, options())
	w, machines := large(t, newNamespace(t))
	for i := range machines {
		launch(t, &machines[i], "1")
	}
	eventuallyWorkspace(t, w, isReady)
	set := func(c require.TestingT) *appsv1.StatefulSet {
		s := &appsv1.StatefulSet{}
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(w), s))
		return s
	}
	wanted, mark := set(t).Spec, mark(t)
	require.NoError(t, retry.RetryOnConflict(retry.DefaultRetry, func() error { // its status may just be written
		edited := set(t)
		edited.Spec.Replicas = ptr.To[int32](5)
		edited.Spec.Template.Spec.Containers[0].Image = "example.com/other:1"
		return shared.client.Update(t.Context(), edited)
	}))
	require.EventuallyWithT(
		t, func(c *assert.CollectT) { assert.Equal(c, wanted, set(c).Spec) }, eventually.Long, eventually.Tick,
	)
	applied := 0
	for _, r := range calls(t, mark) {
		if r.Resource == "statefulsets" {
			applied++
		}
	}
	assert.Equal(t, 1, applied, audit.Table(calls(t, mark)))
}
