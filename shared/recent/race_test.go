// SPDX-License-Identifier: Apache-2.0

package recent_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"kaito.sh/shared/recent"
)

// overtaken is a client whose cache is old when it is read the first time; before the answer is back, the watch catches
// up.
func overtaken(t *testing.T) *recent.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, corev1.AddToScheme(scheme))
	live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod("a", nil)).Build()
	old := fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod("a", nil)).Build()
	var c *recent.Client
	caughtUp := false
	catchUp := func(ctx context.Context) {
		now := &corev1.Pod{}
		require.NoError(t, live.Get(ctx, client.ObjectKeyFromObject(pod("a", nil)), now))
		caughtUp = true
		c.Shown(now)
	}
	c = recent.New(interceptor.NewClient(live, interceptor.Funcs{
		Get: func(ctx context.Context, live client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if caughtUp {
				return live.Get(ctx, key, obj, opts...)
			}
			err := old.Get(ctx, key, obj, opts...)
			catchUp(ctx)
			return err
		},
		List: func(ctx context.Context, live client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if caughtUp {
				return live.List(ctx, list, opts...)
			}
			err := old.List(ctx, list, opts...)
			catchUp(ctx)
			return err
		},
	}), clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), nil, nil)
	written := pod("a", nil)
	require.NoError(t, old.Get(t.Context(), client.ObjectKeyFromObject(written), written))
	before := written.DeepCopy()
	written.Labels = map[string]string{"app": "patched"}
	require.NoError(t, c.Patch(t.Context(), written, client.MergeFrom(before)))
	return c
}

// Catches a read that finds the write neither in the cache, which it asked too early, nor in the memory, which it asked
// too late: the next write from there is refused.
func TestAWriteThatTheWatchBringsDuringAReadIsSeen(t *testing.T) {
	t.Parallel()
	got := &corev1.Pod{}
	require.NoError(t, overtaken(t).Get(t.Context(), client.ObjectKeyFromObject(pod("a", nil)), got))
	assert.Equal(t, "patched", got.Labels["app"])

	list := &corev1.PodList{}
	require.NoError(t, overtaken(t).List(t.Context(), list))
	require.Len(t, list.Items, 1)
	assert.Equal(t, "patched", list.Items[0].Labels["app"])
}
