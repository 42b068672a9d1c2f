// SPDX-License-Identifier: Apache-2.0

package recent_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"kaito.sh/shared/recent"
)

// stale answers reads as of the moment that it was made, and writes to the live one.
func stale(t *testing.T, live client.WithWatch, objects ...client.Object) client.Client {
	t.Helper()
	scheme := live.Scheme()
	snapshot := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	return interceptor.NewClient(live, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return snapshot.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return snapshot.List(ctx, list, opts...)
		},
	})
}

func fixture(t *testing.T, objects ...client.Object) (*recent.Client, *clocktesting.FakePassiveClock) {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, corev1.AddToScheme(scheme))
	live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	clk := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	return recent.New(stale(t, live, objects...), clk, nil, nil), clk
}

func pod(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:  "ns",
			Name:       name,
			Labels:     labels,
			UID:        "u-1",
			Finalizers: []string{"test/keep"},
		},
	}
}

func TestReadReturnsACreatedObjectBeforeTheCacheDoes(t *testing.T) {
	t.Parallel()
	c, clk := fixture(t)
	ctx := context.Background()
	require.NoError(t, c.Create(ctx, pod("a", map[string]string{"app": "x"})))

	got := &corev1.Pod{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, got))
	assert.Equal(t, "x", got.Labels["app"])

	list := &corev1.PodList{}
	require.NoError(t, c.List(ctx, list, client.InNamespace("ns"), client.MatchingLabels{"app": "x"}))
	assert.Len(t, list.Items, 1)
	require.NoError(t, c.List(ctx, list, client.InNamespace("ns"), client.MatchingLabels{"app": "y"}))
	assert.Empty(t, list.Items, "a selector holds for what was written too")

	clk.SetTime(clk.Now().Add(2 * time.Minute))
	assert.True(
		t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, got)),
		"an old write is not believed against the cache",
	)
}

func TestAPatchIsReadThoughTheCacheIsOlder(t *testing.T) {
	t.Parallel()
	c, _ := fixture(t, pod("a", nil))
	ctx := context.Background()
	got := &corev1.Pod{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, got))
	before := got.DeepCopy()
	got.Labels = map[string]string{"app": "patched"}
	require.NoError(t, c.Patch(ctx, got, client.MergeFrom(before)))

	again := &corev1.Pod{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, again))
	assert.Equal(t, "patched", again.Labels["app"])
	assert.Equal(t, got.ResourceVersion, again.ResourceVersion, "a second patch from here meets no conflict")
	list := &corev1.PodList{}
	require.NoError(t, c.List(ctx, list))
	require.Len(t, list.Items, 1)
	assert.Equal(t, "patched", list.Items[0].Labels["app"])
}

func TestWhatWasDeletedIsShownAsGoing(t *testing.T) {
	t.Parallel()
	c, _ := fixture(t, pod("a", nil))
	ctx := context.Background()
	got := &corev1.Pod{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, got))
	require.NoError(t, c.Delete(ctx, got))
	again := &corev1.Pod{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, again))
	assert.NotNil(t, again.DeletionTimestamp, "a pass that follows must not delete it again")
	list := &corev1.PodList{}
	require.NoError(t, c.List(ctx, list))
	require.Len(t, list.Items, 1)
	assert.NotNil(t, list.Items[0].DeletionTimestamp)
}

func TestADryRunIsNotRemembered(t *testing.T) {
	t.Parallel()
	c, _ := fixture(t)
	require.NoError(t, c.Create(context.Background(), pod("a", nil), client.DryRunAll))
	assert.True(
		t, apierrors.IsNotFound(c.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: "a"}, &corev1.Pod{})),
	)
}

func TestForgottenWritesAreLeftToTheCache(t *testing.T) {
	t.Parallel()
	c, _ := fixture(t)
	require.NoError(t, c.Create(context.Background(), pod("a", nil)))
	c.Forget(pod("a", nil))
	assert.True(
		t, apierrors.IsNotFound(c.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: "a"}, &corev1.Pod{})),
	)
}

func TestReadHidesAnObjectThatLostItsLastFinalizer(t *testing.T) {
	t.Parallel()
	going := pod("a", nil)
	now := metav1.Now()
	going.DeletionTimestamp = &now
	c, _ := fixture(t, going)
	ctx := context.Background()
	got := &corev1.Pod{}
	require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, got))
	before := got.DeepCopy()
	got.Finalizers = nil
	require.NoError(t, c.Patch(ctx, got, client.MergeFrom(before)))
	assert.True(
		t, apierrors.IsNotFound(c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "a"}, &corev1.Pod{})),
		"a pass that follows must not take the finalizer again",
	)
	list := &corev1.PodList{}
	require.NoError(t, c.List(ctx, list))
	assert.Empty(t, list.Items)
}
