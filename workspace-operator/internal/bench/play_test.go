// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
)

// world is the rest of the cluster: it answers at once, so that all the time that passes is the subject's and the API
// server's.
type world struct {
	client client.Client

	mu    sync.Mutex
	ready map[client.ObjectKey]time.Time
}

func play(t *testing.T, c client.Client, config *rest.Config) *world {
	t.Helper()
	w := &world{client: c, ready: map[client.ObjectKey]time.Time{}}
	// Informers, since a plain watch that falls behind is closed by the API server and starts no second time.
	informers, err := cache.New(config, cache.Options{Scheme: c.Scheme()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, each := range []struct {
		kind   client.Object
		handle func(context.Context, any)
	}{{&karpenterv1alpha5.Machine{}, w.machine}, {&appsv1.Deployment{}, w.deployment}, {&kaitov1alpha1.Workspace{}, w.workspace}} {
		informer, err := informers.GetInformer(ctx, each.kind, cache.BlockUntilSynced(false))
		require.NoError(t, err)
		handle := func(obj any) { running.Go(func() { each.handle(ctx, obj) }) }
		_, err = informer.AddEventHandler(
			toolscache.ResourceEventHandlerFuncs{AddFunc: handle, UpdateFunc: func(_, obj any) { handle(obj) }},
		)
		require.NoError(t, err)
	}
	running.Go(func() { _ = informers.Start(ctx) }) // it ends with the context
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	require.True(t, informers.WaitForCacheSync(ctx))
	return w
}

// machine: its node is there with its GPUs, and it is Ready.
func (w *world) machine(ctx context.Context, obj any) {
	m, ok := obj.(*karpenterv1alpha5.Machine)
	if !ok || len(m.Status.Conditions) > 0 {
		return
	}
	m = m.DeepCopy()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n-" + m.Name, Labels: m.Labels}}
	if err := w.client.Create(ctx, n); err != nil {
		return // seen before, or the test has ended
	}
	before := n.DeepCopy()
	n.Status = corev1.NodeStatus{
		Allocatable: m.Spec.Resources.Requests,
		Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()},
		},
	}
	if err := w.client.Status().Patch(ctx, n, client.MergeFrom(before)); err != nil {
		return
	}
	old := m.DeepCopy()
	m.Status.NodeName = n.Name
	for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
		m.Status.Conditions = append(
			m.Status.Conditions,
			karpenterv1alpha5.Condition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()},
		)
	}
	_ = w.client.Status().Patch(ctx, m, client.MergeFrom(old)) // the test fails if the subject does not see it
}

// deployment: its pod is available.
func (w *world) deployment(ctx context.Context, obj any) {
	d, ok := obj.(*appsv1.Deployment)
	if !ok || d.Status.ObservedGeneration == d.Generation {
		return
	}
	before := d
	d = d.DeepCopy()
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation,
		Replicas:           1,
		UpdatedReplicas:    1,
		ReadyReplicas:      1,
		AvailableReplicas:  1,
	}
	_ = w.client.Status().Patch(ctx, d, client.MergeFrom(before)) // as above
}

func (w *world) workspace(_ context.Context, obj any) {
	ws, ok := obj.(*kaitov1alpha1.Workspace)
	if !ok || !conditions.IsTrue(ws, conditions.Ready) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if key := client.ObjectKeyFromObject(ws); w.ready[key].IsZero() {
		w.ready[key] = time.Now()
	}
}

// count is how many Workspaces are Ready.
func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ready)
}
