// SPDX-License-Identifier: Apache-2.0

package workspace_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/workspace"
)

// machinesServed stands for a cluster that serves Machines only.
type machinesServed struct{}

func (machinesServed) Served(_ context.Context, obj client.Object) (bool, error) {
	_, machine := obj.(*karpenterv1alpha5.Machine)
	return machine, nil
}

// Each pass is a new process that reads the same old cache: nothing is remembered but what the API server has.
func TestThreeReconcilesFromAStaleCacheCreateOneMachine(t *testing.T) {
	w := inferenceWorkspace(newNamespace(t), "model")
	w.Finalizers = []string{kaitov1alpha1.Finalizer}
	create(t, w)
	t.Cleanup(func() {
		got := &kaitov1alpha1.Workspace{}
		require.NoError(t, shared.client.Get(context.Background(), client.ObjectKeyFromObject(w), got))
		got.Finalizers = nil
		require.NoError(t, shared.client.Update(context.Background(), got))
		for _, m := range machinesOf(t, w) {
			require.NoError(t, shared.client.Delete(context.Background(), &m))
		}
	})
	snapshot := workspace.Indexed(fake.NewClientBuilder().WithScheme(shared.client.Scheme())).
		WithObjects(w.DeepCopy()).
		Build()
	live, err := client.NewWithWatch(shared.cluster.Config(), client.Options{Scheme: shared.client.Scheme()})
	require.NoError(t, err)
	conflicts := 0
	stale := interceptor.NewClient(live, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if err := snapshot.Get(ctx, key, obj, opts...); err != nil {
				return err
			}
			obj.SetResourceVersion(w.ResourceVersion)
			return nil
		},
		List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return snapshot.List(ctx, list, opts...)
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption,
		) error {
			err := c.SubResource(sub).Patch(ctx, obj, p, opts...)
			if apierrors.IsConflict(err) {
				conflicts++
			}
			return err
		},
	})
	known, err := catalog.Load()
	require.NoError(t, err)
	o := options()
	o.StatusHold = 0 // each pass writes
	for range 3 {
		r, err := workspace.New(workspace.Config{
			Client: stale, Live: live, Kinds: machinesServed{}, Secrets: workspace.DryRunSecrets{Client: live},
			Catalog: known, Engine: vllm.Engine{}, Events: events.NewFakeRecorder(10), Clock: clock.RealClock{}, Options: o,
		})
		require.NoError(t, err)
		result, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(w)})
		require.NoError(t, err, "a conflict is not an error")
		if conflicts > 0 {
			assert.Equal(t, time.Second, result.RequeueAfter, "another pass is due")
		}
	}
	assert.Len(t, machinesOf(t, w), 1)
	assert.Equal(t, 2, conflicts, "the status of the first pass must not be overwritten from an older view")
}
