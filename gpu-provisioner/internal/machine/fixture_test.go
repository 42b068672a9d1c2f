// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/scheme"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// fixture is a Reconciler with a fake client that counts writes.
type fixture struct {
	*Reconciler
	t      *testing.T
	writes int
	events *events.FakeRecorder
	clock  *testclock.FakeClock
}

func newFixture(t *testing.T) *fixture {
	kinds, err := scheme.New()
	require.NoError(t, err)
	f := &fixture{t: t, events: events.NewFakeRecorder(20), clock: testclock.NewFakeClock(time.Unix(1000, 0))}
	count := func() { f.writes++ }
	c := fake.NewClientBuilder().
		WithScheme(kinds).
		WithStatusSubresource(&karpenterv1alpha5.Machine{}, &karpv1.NodeClaim{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				count()
				return c.Create(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				count()
				return c.Patch(ctx, o, p, opts...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				count()
				return c.Delete(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				count()
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).
		Build()
	f.Reconciler = New(Config{Client: c, Events: f.events, Clock: f.clock, NodeClass: "default"})
	return f
}

func machineOf(name string) *karpenterv1alpha5.Machine {
	return &karpenterv1alpha5.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			UID:    "u-" + "1",
			Labels: map[string]string{"kaito.sh/workspace": "w", karpenterv1alpha5.LabelProvisionerName: "default"},
		},
		Spec: karpenterv1alpha5.MachineSpec{
			Taints: []corev1.Taint{{Key: "sku", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}},
			Requirements: []corev1.NodeSelectorRequirement{
				{
					Key:      corev1.LabelInstanceTypeStable,
					Operator: corev1.NodeSelectorOpIn,
					Values:   []string{"Standard_NC24ads_A100_v4"},
				},
				{Key: "kaito.sh/machine-type", Operator: corev1.NodeSelectorOpIn, Values: []string{"gpu"}},
			},
			Resources: karpenterv1alpha5.ResourceRequirements{Requests: corev1.ResourceList{
				"nvidia.com/gpu": resource.MustParse("1"), corev1.ResourceStorage: resource.MustParse("100Gi"),
			}},
		},
	}
}

// settle reconciles until a pass writes nothing.
func (f *fixture) settle(name string) {
	f.t.Helper()
	for range 10 {
		before := f.writes
		_, err := f.Reconcile(f.t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
		require.NoError(f.t, err)
		if f.writes == before {
			return
		}
	}
	f.t.Fatal("still writing after ten passes")
}

func (f *fixture) machine(name string) *karpenterv1alpha5.Machine {
	m := &karpenterv1alpha5.Machine{}
	require.NoError(f.t, f.Client.Get(f.t.Context(), client.ObjectKey{Name: name}, m))
	return m
}

func (f *fixture) claim(name string) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{}
	err := f.Client.Get(f.t.Context(), client.ObjectKey{Name: name}, c)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(f.t, err)
	return c
}

// karpenter changes a claim as Karpenter does.
func (f *fixture) karpenter(name string, change func(*karpv1.NodeClaim)) {
	c := f.claim(name)
	change(c)
	wanted := c.Status
	require.NoError(f.t, f.Client.Update(f.t.Context(), c))
	c.Status = wanted
	require.NoError(f.t, f.Client.Status().Update(f.t.Context(), c))
}

func (f *fixture) launched(name string, s metav1.ConditionStatus, reason, message string) {
	f.karpenter(name, func(c *karpv1.NodeClaim) {
		c.SetConditions([]status.Condition{{Type: karpv1.ConditionTypeLaunched, Status: s, Reason: reason, Message: message}})
	})
}

func (f *fixture) start(name string) {
	require.NoError(f.t, f.Client.Create(f.t.Context(), machineOf(name)))
	f.settle(name)
	require.NotNil(f.t, f.claim(name))
	f.karpenter(name, func(c *karpv1.NodeClaim) { c.Finalizers = append(c.Finalizers, karpv1.TerminationFinalizer) })
}
