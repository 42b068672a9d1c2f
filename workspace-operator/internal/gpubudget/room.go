// SPDX-License-Identifier: Apache-2.0

package gpubudget

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/budget"
)

// Room is what the process remembers about GPUBudgets: which namespaces have one, which Workspaces wait, and which
// nodes are reserved. It is lost with the process, and nothing depends on it then: a new leader counts the claims that
// the API server has.
type Room struct {
	// stripes keep two Workspaces of a namespace from counting the same room. A namespace always has the same stripe.
	stripes [64]sync.Mutex
	seed    maphash.Seed

	mu sync.Mutex
	// budgeted are the namespaces with a GPUBudget, as far as the watch has shown.
	budgeted map[string]bool
	// waiting are the Workspaces, by namespace, that a budget may keep from renting nodes.
	waiting map[string]map[types.NamespacedName]bool
	// reserved are the nodes, by namespace and Workspace, whose claims may be created at any moment.
	reserved map[string]map[types.NamespacedName][]budget.Node

	workspaces *notifier
	namespaces *notifier
}

// NewRoom returns an empty Room.
func NewRoom() *Room {
	return &Room{
		seed: maphash.MakeSeed(), budgeted: map[string]bool{}, waiting: map[string]map[types.NamespacedName]bool{},
		reserved:   map[string]map[types.NamespacedName][]budget.Node{},
		workspaces: newNotifier(), namespaces: newNotifier(),
	}
}

// lock returns the mutex to hold while the room of a namespace is counted and reserved. Requests to the API server are
// made while it is held, but only to count.
func (r *Room) lock(namespace string) *sync.Mutex {
	return &r.stripes[maphash.String(r.seed, namespace)%uint64(len(r.stripes))]
}

// Wait records that a Workspace may have to wait for room. Call it before the room is counted: a node that is released
// afterwards then enqueues the Workspace.
func (r *Room) Wait(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[name.Namespace] == nil {
		r.waiting[name.Namespace] = map[types.NamespacedName]bool{}
	}
	r.waiting[name.Namespace][name] = true
}

// Done records the end of a pass that created no claim and will not retry: what it had reserved is free. waits says
// whether the Workspace still waits for room, changed whether it did not before, or the other way round.
func (r *Room) Done(name types.NamespacedName, waits, changed bool) {
	if !waits {
		r.leave(name)
	}
	if r.release(name) {
		r.enqueueWaiting(name.Namespace)
	}
	if changed {
		r.enqueueCount(name.Namespace)
	}
}

// Forget drops a Workspace that is gone.
func (r *Room) Forget(name types.NamespacedName) {
	r.leave(name)
	r.release(name)
	r.enqueueWaiting(name.Namespace)
	r.enqueueCount(name.Namespace)
}

func (r *Room) leave(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting[name.Namespace], name)
	if len(r.waiting[name.Namespace]) == 0 {
		delete(r.waiting, name.Namespace)
	}
}

// reserve keeps nodes for a Workspace until release, in place of what it had reserved before.
func (r *Room) reserve(name types.NamespacedName, nodes []budget.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved[name.Namespace] == nil {
		r.reserved[name.Namespace] = map[types.NamespacedName][]budget.Node{}
	}
	r.reserved[name.Namespace][name] = nodes
}

// release ends a Workspace's reservation, and returns whether it had one.
func (r *Room) release(name types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, had := r.reserved[name.Namespace][name]
	delete(r.reserved[name.Namespace], name)
	if len(r.reserved[name.Namespace]) == 0 {
		delete(r.reserved, name.Namespace)
	}
	return had
}

// reservedByOthers returns the nodes that the other Workspaces of a Workspace's namespace have reserved.
func (r *Room) reservedByOthers(name types.NamespacedName) []budget.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []budget.Node
	for other, nodes := range r.reserved[name.Namespace] {
		if other != name {
			out = append(out, nodes...)
		}
	}
	return out
}

// waitingIn returns the Workspaces of a namespace that wait, by name.
func (r *Room) waitingIn(namespace string) []types.NamespacedName {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []types.NamespacedName
	for name := range r.waiting[namespace] {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (r *Room) enqueueWaiting(namespace string) { r.workspaces.notify(r.waitingIn(namespace)...) }

func (r *Room) enqueueCount(namespace string) {
	r.mu.Lock()
	budgeted := r.budgeted[namespace]
	r.mu.Unlock()
	if budgeted {
		r.namespaces.notify(types.NamespacedName{Namespace: namespace})
	}
}

func (r *Room) setBudgeted(namespace string, budgeted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if budgeted {
		r.budgeted[namespace] = true
	} else {
		delete(r.budgeted, namespace)
	}
}

// ForgetBudgets is called when the cluster no longer serves GPUBudgets.
func (r *Room) ForgetBudgets() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budgeted = map[string]bool{}
}

// Workspaces returns the source that enqueues Workspaces for which there may be room.
func (r *Room) Workspaces() source.Source {
	return r.workspaces.source(func(q queue, request reconcile.Request) { q.Add(request) })
}

// OfClaims adds to a handler of claims what they mean to a budget: a claim that is gone makes room, and each change is
// counted.
func (r *Room) OfClaims(inner handler.EventHandler) handler.EventHandler {
	namespaceOf := func(o client.Object) string { return o.GetLabels()[kaitov1alpha1.LabelWorkspaceNamespace] }
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			inner.Create(ctx, e, q)
			r.enqueueCount(namespaceOf(e.Object))
		},
		UpdateFunc: inner.Update,
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			inner.Delete(ctx, e, q)
			r.enqueueWaiting(namespaceOf(e.Object))
			r.enqueueCount(namespaceOf(e.Object))
		},
		GenericFunc: inner.Generic,
	}
}

// OfBudgets handles a change of a GPUBudget: the waiting Workspaces of its namespace are reconciled, and it is counted.
func (r *Room) OfBudgets() handler.EventHandler {
	changed := func(obj client.Object) {
		r.setBudgeted(obj.GetNamespace(), true)
		r.enqueueWaiting(obj.GetNamespace())
		r.enqueueCount(obj.GetNamespace())
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, _ queue) { changed(e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) { changed(e.ObjectNew) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { changed(e.Object) },
	}
}
