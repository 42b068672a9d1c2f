// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/budget"
)

// room is what this process remembers about GPUBudgets: which namespaces have one, which Workspaces wait, and which
// nodes are reserved. It dies with the process, and nothing depends on that: a new leader counts the claims that the
// API server has.
type room struct {
	// stripes keep two Workspaces of a namespace from counting the same room. A namespace always has the same stripe.
	stripes [64]sync.Mutex
	seed    maphash.Seed

	mu sync.Mutex
	// budgeted are the namespaces that have a GPUBudget, as far as the watch has told.
	budgeted map[string]bool
	// waiting are the Workspaces, by namespace, that a budget may keep from renting nodes.
	waiting map[string]map[types.NamespacedName]bool
	// reserved are the nodes, by namespace and Workspace, that may be created any moment.
	reserved map[string]map[types.NamespacedName][]budget.Node
	// wake enqueues requests; nil: nothing is enqueued.
	wake func(context.Context, ...reconcile.Request)
}

func newRoom() *room {
	return &room{
		seed: maphash.MakeSeed(), budgeted: map[string]bool{}, waiting: map[string]map[types.NamespacedName]bool{},
		reserved: map[string]map[types.NamespacedName][]budget.Node{},
	}
}

// lock is held while the room of a namespace is counted and reserved. Requests to the API server are made under it:
// only to count.
func (r *room) lock(namespace string) *sync.Mutex {
	return &r.stripes[maphash.String(r.seed, namespace)%uint64(len(r.stripes))]
}

// wait notes that a Workspace may have to wait. It must be called before the room is counted: a node that goes
// afterwards wakes the Workspace.
func (r *room) wait(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[name.Namespace] == nil {
		r.waiting[name.Namespace] = map[types.NamespacedName]bool{}
	}
	r.waiting[name.Namespace][name] = true
}

// leave notes that a Workspace does not wait any more.
func (r *room) leave(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting[name.Namespace], name)
	if len(r.waiting[name.Namespace]) == 0 {
		delete(r.waiting, name.Namespace)
	}
}

// reserve keeps nodes for a Workspace until release, in place of what it had reserved before.
func (r *room) reserve(name types.NamespacedName, nodes []budget.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved[name.Namespace] == nil {
		r.reserved[name.Namespace] = map[types.NamespacedName][]budget.Node{}
	}
	r.reserved[name.Namespace][name] = nodes
}

// release ends a Workspace's reservation, and says whether there was one.
func (r *room) release(name types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, had := r.reserved[name.Namespace][name]
	delete(r.reserved[name.Namespace], name)
	if len(r.reserved[name.Namespace]) == 0 {
		delete(r.reserved, name.Namespace)
	}
	return had
}

// held are the nodes that the Workspaces of a namespace have reserved, but for one of them.
func (r *room) held(but types.NamespacedName) []budget.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []budget.Node
	for name, nodes := range r.reserved[but.Namespace] {
		if name != but {
			out = append(out, nodes...)
		}
	}
	return out
}

// requests are the Workspaces of a namespace that wait, in an order that does not change.
func (r *room) requests(namespace string) []reconcile.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []reconcile.Request
	for name := range r.waiting[namespace] {
		out = append(out, reconcile.Request{NamespacedName: name})
	}
	slices.SortFunc(out, func(a, b reconcile.Request) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// tell has the waiting Workspaces of a namespace reconciled.
func (r *room) tell(ctx context.Context, namespace string) {
	if r.wake != nil {
		r.wake(ctx, r.requests(namespace)...)
	}
}

// note has the budgets of a namespace counted, if it has any.
func (r *room) note(ctx context.Context, namespace string) {
	if r.wake != nil && r.has(namespace) {
		r.wake(ctx, countOf(namespace))
	}
}

// has says whether a namespace has a budget, as far as is known.
func (r *room) has(namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.budgeted[namespace]
}

func (r *room) budget(namespace string, has bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if has {
		r.budgeted[namespace] = true
	} else {
		delete(r.budgeted, namespace)
	}
}

// woken enqueues what wake was told.
func (r *room) woken() handler.EventHandler {
	return handler.Funcs{GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) {
		request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.Object)}
		if isCount(request) {
			r.countSoon(q, request.Namespace)
			return
		}
		q.Add(request)
	}}
}

// forget is for a cluster that does not serve GPUBudgets any more.
func (r *room) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budgeted = map[string]bool{}
}

// countOf is the request to count what a namespace uses of its budgets. It is no Workspace's: it has no name.
func countOf(namespace string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace}}
}

func isCount(request reconcile.Request) bool { return request.Name == "" && request.Namespace != "" }

// countDelay gathers changes: a hundred claims that are created at once are one count, and one write of the status.
const countDelay = 500 * time.Millisecond

func (r *room) countSoon(q queue, namespace string) {
	if !r.has(namespace) {
		return
	}
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		low := ofHeld
		pq.AddWithOpts(priorityqueue.AddOpts{After: countDelay, Priority: &low}, countOf(namespace))
		return
	}
	q.AddAfter(countOf(namespace), countDelay)
}

// ofClaims adds to the handler of claims what a claim means to a budget: a claim that is gone makes room, and each
// change is counted.
func (r *room) ofClaims(inner handler.EventHandler) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			inner.Create(ctx, e, q)
			r.countSoon(q, e.Object.GetLabels()[kaitov1alpha1.LabelWorkspaceNamespace])
		},
		UpdateFunc: inner.Update,
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			inner.Delete(ctx, e, q)
			namespace := e.Object.GetLabels()[kaitov1alpha1.LabelWorkspaceNamespace]
			for _, request := range r.requests(namespace) {
				q.Add(request)
			}
			r.countSoon(q, namespace)
		},
		GenericFunc: inner.Generic,
	}
}

// ofBudgets has the waiting Workspaces of a namespace reconciled, and its budgets counted, when one of them changes.
func (r *room) ofBudgets() handler.EventHandler {
	changed := func(obj client.Object, q queue) {
		r.budget(obj.GetNamespace(), true)
		for _, request := range r.requests(obj.GetNamespace()) {
			q.Add(request)
		}
		r.countSoon(q, obj.GetNamespace())
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { changed(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { changed(e.ObjectNew, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { changed(e.Object, q) },
	}
}
