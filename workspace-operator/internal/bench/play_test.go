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
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/conditions"
)

// world is the rest of the cluster: it answers at once, so that all the time that passes is the subject's and the API server's.
type world struct {
	client client.WithWatch

	mu    sync.Mutex
	ready map[client.ObjectKey]time.Time
}

func play(t *testing.T, c client.WithWatch) *world {
	t.Helper()
	w := &world{client: c, ready: map[client.ObjectKey]time.Time{}}
	follow(t, c, &karpenterv1alpha5.MachineList{}, w.machine)
	follow(t, c, &appsv1.DeploymentList{}, w.deployment)
	follow(t, c, &kaitov1alpha1.WorkspaceList{}, w.workspace)
	return w
}

// follow handles each event of a kind in its own goroutine until the test ends.
func follow(t *testing.T, c client.WithWatch, list client.ObjectList, handle func(context.Context, watch.Event)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := c.Watch(ctx, list)
	require.NoError(t, err)
	var handlers sync.WaitGroup
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range events.ResultChan() {
			handlers.Go(func() { handle(ctx, event) })
		}
	}()
	t.Cleanup(func() {
		cancel()
		events.Stop()
		<-done
		handlers.Wait()
	})
}

// machine: its node is there with its GPUs, and it is Ready.
func (w *world) machine(ctx context.Context, event watch.Event) {
	m, ok := event.Object.(*karpenterv1alpha5.Machine)
	if !ok || event.Type != watch.Added {
		return
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n-" + m.Name, Labels: m.Labels}}
	if err := w.client.Create(ctx, n); err != nil {
		return // the test has ended
	}
	before := n.DeepCopy()
	n.Status = corev1.NodeStatus{Allocatable: m.Spec.Resources.Requests, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}}
	if err := w.client.Status().Patch(ctx, n, client.MergeFrom(before)); err != nil {
		return
	}
	old := m.DeepCopy()
	m.Status.NodeName = n.Name
	for _, c := range []string{karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ConditionMachineRegistered, karpenterv1alpha5.ConditionMachineInitialized, karpenterv1alpha5.ConditionReady} {
		m.Status.Conditions = append(m.Status.Conditions, karpenterv1alpha5.Condition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	_ = w.client.Status().Patch(ctx, m, client.MergeFrom(old)) // a subject that waits for it in vain fails the test
}

// deployment: its pod is available.
func (w *world) deployment(ctx context.Context, event watch.Event) {
	d, ok := event.Object.(*appsv1.Deployment)
	if !ok || event.Type == watch.Deleted || d.Status.ObservedGeneration == d.Generation {
		return
	}
	before := d.DeepCopy()
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	_ = w.client.Status().Patch(ctx, d, client.MergeFrom(before)) // as above
}

func (w *world) workspace(_ context.Context, event watch.Event) {
	ws, ok := event.Object.(*kaitov1alpha1.Workspace)
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
