// SPDX-License-Identifier: Apache-2.0

package budget_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/scheme"
	"kaito.sh/workspace-operator/internal/workspace"
)

const (
	budgetNodes = 4
	crowd       = 24
)

// served is a cluster that serves Machines and GPUBudgets.
type served struct{}

func (served) Served(_ context.Context, obj client.Object) (bool, error) {
	switch obj.(type) {
	case *karpenterv1alpha5.Machine, *kaitov1alpha1.GPUBudget:
		return true, nil
	}
	return false, nil
}

// present answers that every Secret exists.
type present struct{}

func (present) Exists(context.Context, client.ObjectKey) (exists, known bool, err error) {
	return true, true, nil
}

// apiServer is a cluster in memory with a crowd of Workspaces and a budget.
func apiServer(t *testing.T) client.WithWatch {
	t.Helper()
	scheme, err := scheme.New()
	require.NoError(t, err)
	b := fake.NewClientBuilder().
		WithScheme(scheme).
		WithStatusSubresource(&kaitov1alpha1.Workspace{}, &kaitov1alpha1.GPUBudget{}).
		WithObjects(&kaitov1alpha1.GPUBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "team"}, Spec: kaitov1alpha1.GPUBudgetSpec{MaxNodes: ptr.To[int32](budgetNodes)}})
	for i := range crowd {
		name := fmt.Sprintf("w%d", i)
		b.WithObjects(&kaitov1alpha1.Workspace{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:  "ns",
				Name:       name,
				UID:        types.UID("uid-" + name),
				Finalizers: []string{kaitov1alpha1.Finalizer},
			},
			Resource:  kaitov1alpha1.ResourceSpec{InstanceType: "Standard_NC24ads_A100_v4"},
			Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{Name: "phi-4-mini-instruct"}},
		})
	}
	return b.Build()
}

// gate holds the creation of claims until every pass has either ended or come to one, so that all claims that are ever
// allowed are on their way at the same moment.
type gate struct {
	mu      sync.Mutex
	moved   *sync.Cond
	expects int
}

func newGate() *gate {
	g := &gate{expects: crowd}
	g.moved = sync.NewCond(&g.mu)
	return g
}

// arrive counts a pass that has ended, or come to a creation.
func (g *gate) arrive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expects--
	g.moved.Broadcast()
}

func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.expects > 0 {
		g.moved.Wait()
	}
}

// blind reads a cache that has seen no claim yet, and writes to the API server.
func blind(live client.WithWatch, g *gate) client.Client {
	return interceptor.NewClient(
		live,
		interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				if _, claim := obj.(*karpenterv1alpha5.Machine); claim {
					g.arrive()
					g.pass()
				}
				return c.Create(ctx, obj, opts...)
			},
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				switch list.(type) {
				case *kaitov1alpha1.GPUBudgetList:
					return c.List(ctx, list, opts...)
				}
				return nil
			},
		},
	)
}

func operator(t *testing.T, live client.WithWatch, g *gate) *workspace.Reconciler {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	r, err := workspace.New(workspace.Config{
		Client:  blind(live, g),
		Live:    live,
		Kinds:   served{},
		Secrets: present{},
		Catalog: c,
		Engine:  vllm.Engine{},
		Events:  events.NewFakeRecorder(1000),
		Clock:   clock.RealClock{},
		Options: workspace.DefaultOptions(),
	})
	require.NoError(t, err)
	return r
}

// TestWorkersAndNewLeadersNeverOvershoot has several workers reconcile a crowd at once, and a new process do so again,
// each from a cache that shows no claim: what counts is what the API server has.
func TestWorkersAndNewLeadersNeverOvershoot(t *testing.T) {
	t.Parallel()
	live := apiServer(t)
	for range 3 {
		g := newGate()
		r := operator(t, live, g)
		var workers sync.WaitGroup
		var failed atomic.Value
		for i := range crowd {
			workers.Go(func() {
				request := reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: fmt.Sprintf("w%d", i)}}
				if _, err := r.Reconcile(t.Context(), request); err != nil {
					failed.Store(err.Error())
				}
				g.arrive()
			})
		}
		workers.Wait()
		assert.Nil(t, failed.Load())
		claims := &karpenterv1alpha5.MachineList{}
		require.NoError(t, live.List(t.Context(), claims))
		require.Len(t, claims.Items, budgetNodes)
	}
	all := &kaitov1alpha1.WorkspaceList{}
	require.NoError(t, live.List(t.Context(), all))
	stalled := 0
	for i := range all.Items {
		for _, c := range all.Items[i].Status.Conditions {
			if c.Type == kaitov1alpha1.ConditionStalled && c.Status == metav1.ConditionTrue {
				assert.Equal(t, kaitov1alpha1.ReasonBudgetExceeded, c.Reason)
				assert.Contains(t, c.Message, "spec.maxNodes is 4, 4 are in use, and 1 more are wanted")
				stalled++
			}
		}
	}
	assert.Equal(t, crowd-budgetNodes, stalled)
}
