// SPDX-License-Identifier: Apache-2.0

package recent_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/recent"
)

const wanted = "wanted"

var (
	childKey = client.ObjectKey{Namespace: "ns", Name: "child"}
	writer   = types.NamespacedName{Namespace: "ns", Name: "parent"}
)

// cluster is an API server with one object, a watch that lags behind it, breaks and lists anew, and another client that
// edits and deletes. What may happen while a request is on its way happens then.
type cluster struct {
	client.Client
	scheme  *runtime.Scheme
	version int
	uids    int
	stored  *corev1.ConfigMap // nil: there is none
	cached  *corev1.ConfigMap
	pending []*corev1.ConfigMap // states that the watch has not shown yet; nil: gone
	meddle  func()              // before and after each write
}

func (c *cluster) Scheme() *runtime.Scheme { return c.scheme }

func (c *cluster) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	if c.cached == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "child")
	}
	c.cached.DeepCopyInto(obj.(*corev1.ConfigMap))
	return nil
}

func (c *cluster) store(cm *corev1.ConfigMap) {
	c.version++
	if cm != nil {
		cm = cm.DeepCopy()
		cm.ResourceVersion = strconv.Itoa(c.version)
	}
	c.stored = cm
	c.pending = append(c.pending, cm)
}

func (c *cluster) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	c.meddle()
	defer c.meddle()
	if c.stored != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "configmaps"}, "child")
	}
	c.uids++
	cm := obj.(*corev1.ConfigMap)
	cm.UID = types.UID(strconv.Itoa(c.uids))
	c.store(cm)
	c.stored.DeepCopyInto(cm)
	return nil
}

func (c *cluster) Patch(_ context.Context, obj client.Object, patch client.Patch, _ ...client.PatchOption) error {
	c.meddle()
	defer c.meddle()
	cm := obj.(*corev1.ConfigMap)
	if _, err := patch.Data(obj); err != nil {
		return err
	}
	if c.stored == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "child")
	}
	if c.stored.ResourceVersion != cm.ResourceVersion {
		return apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, "child", nil)
	}
	changed := c.stored.DeepCopy()
	changed.Data = cm.Data
	c.store(changed)
	c.stored.DeepCopyInto(cm)
	return nil
}

func data(cm *corev1.ConfigMap) string {
	if cm == nil {
		return ""
	}
	return cm.Data["k"]
}

// In any order of writes, answers, events, broken watches and other clients' writes: in the end the object
// is what is wanted. A lost wake-up leaves it otherwise for good.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	require.NoError(t, corev1.AddToScheme(scheme))
	rapid.Check(t, func(t *rapid.T) {
		clk := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
		server := &cluster{scheme: scheme, meddle: func() {}}
		c := recent.New(server, clk, nil, nil)
		queued := true
		var due time.Time // of the pass that was asked for at a time

		show := func(state *corev1.ConfigMap) {
			before := server.cached
			server.cached = state
			switch {
			case state == nil && before != nil:
				c.Forget(before)
				queued = true
			case state != nil && before != nil && before.UID != state.UID: // a list that shows another object of the name
				c.Forget(before)
				queued = true
				_ = c.Shown(state)
			case state != nil && !c.Shown(state):
				queued = true
			}
		}
		deliver := func() {
			if len(server.pending) > 0 {
				state := server.pending[0]
				server.pending = server.pending[1:]
				show(state)
			}
		}
		act := func(what string) {
			switch what {
			case "deliver":
				deliver()
			case "list anew": // all between is never shown
				server.pending = nil
				if (server.stored == nil) != (server.cached == nil) ||
					server.stored != nil && server.stored.ResourceVersion != server.cached.ResourceVersion {
					show(server.stored)
				}
			case "edit":
				if server.stored != nil {
					edited := server.stored.DeepCopy()
					edited.Data = map[string]string{"k": "edited"}
					server.store(edited)
				}
			case "delete":
				if server.stored != nil {
					server.store(nil)
				}
			case "wait":
				clk.SetTime(clk.Now().Add(10 * time.Second))
			}
		}
		actions := rapid.SampledFrom(
			[]string{"deliver", "deliver", "list anew", "edit", "delete", "wait", "nothing", "nothing"},
		)
		server.meddle = func() { act(actions.Draw(t, "meanwhile")) }
		pass := func() {
			queued, due = false, time.Time{}
			ctx := recent.By(context.Background(), writer)
			got := &corev1.ConfigMap{}
			err := c.Get(ctx, childKey, got)
			switch {
			case apierrors.IsNotFound(err):
				got = &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: "child", Namespace: "ns"},
					Data:       map[string]string{"k": wanted},
				}
				err = c.Create(ctx, got)
			case got.Data["k"] != wanted:
				before := got.DeepCopy()
				got.Data = map[string]string{"k": wanted}
				err = c.Patch(ctx, got, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
			default:
				err = nil
			}
			if err != nil && !apierrors.IsAlreadyExists(err) {
				queued = true // what fails is tried again
			}
			if left := c.Unshown(writer); left > 0 {
				due = clk.Now().Add(left)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if queued && rapid.Bool().Draw(t, "a worker is free") {
				pass()
				continue
			}
			act(actions.Draw(t, "action"))
		}
		// Now all goes quiet.
		server.meddle = func() {}
		for range 50 {
			switch {
			case len(server.pending) > 0:
				deliver()
			case queued:
				pass()
			case server.cached != nil && data(server.cached) != wanted:
				t.Fatalf("the cache shows what is not wanted, and no event was passed: %+v", server.cached)
			case !due.IsZero():
				clk.SetTime(due)
				pass()
			}
		}
		if data(server.stored) != wanted {
			t.Fatalf("the object is %q for good: stored %+v, cached %+v", data(server.stored), server.stored, server.cached)
		}
	})
}
