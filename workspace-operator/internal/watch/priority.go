// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Priorities of events. A Workspace that has come further goes first: an existing node costs money until its model is
// served, while a node that is asked for a second later costs nothing. New Workspaces are not starved, since a
// Workspace goes through each stage once.
const (
	// PriorityHeld is for a status that is held back: while there is other work, a later change may still save its write.
	PriorityHeld = -1
	// PriorityPlacement is for claims, nodes and TuningJobs.
	PriorityPlacement = 10
	// PriorityServing is for the objects of a server.
	PriorityServing = 20
)

// WithPriority gives a priority to the events of a handler that have none.
func WithPriority(priority int, h handler.EventHandler) handler.EventHandler {
	return prioritized{EventHandler: h, priority: priority}
}

type prioritized struct {
	handler.EventHandler
	priority int
}

// Queue is a controller's queue.
type Queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (p prioritized) raise(q Queue) Queue {
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		return raised{PriorityQueue: pq, priority: p.priority}
	}
	return q
}

// Create passes a creation on.
func (p prioritized) Create(ctx context.Context, e event.CreateEvent, q Queue) {
	p.EventHandler.Create(ctx, e, p.raise(q))
}

// Update passes an update on.
func (p prioritized) Update(ctx context.Context, e event.UpdateEvent, q Queue) {
	p.EventHandler.Update(ctx, e, p.raise(q))
}

// Delete passes a deletion on.
func (p prioritized) Delete(ctx context.Context, e event.DeleteEvent, q Queue) {
	p.EventHandler.Delete(ctx, e, p.raise(q))
}

// Generic passes any other event on.
func (p prioritized) Generic(ctx context.Context, e event.GenericEvent, q Queue) {
	p.EventHandler.Generic(ctx, e, p.raise(q))
}

// raised is a queue that gives its priority to items without one. Items of an informer's first list have a low one.
type raised struct {
	priorityqueue.PriorityQueue[reconcile.Request]
	priority int
}

// AddWithOpts adds items.
func (r raised) AddWithOpts(o priorityqueue.AddOpts, items ...reconcile.Request) {
	if o.Priority == nil {
		o.Priority = &r.priority
	}
	r.PriorityQueue.AddWithOpts(o, items...)
}

// Add adds an item.
func (r raised) Add(item reconcile.Request) { r.AddWithOpts(priorityqueue.AddOpts{}, item) }

// AddAfter adds an item after a while.
func (r raised) AddAfter(item reconcile.Request, after time.Duration) {
	r.AddWithOpts(priorityqueue.AddOpts{After: after}, item)
}

// AddRateLimited adds an item by the rate limiter.
func (r raised) AddRateLimited(item reconcile.Request) {
	r.AddWithOpts(priorityqueue.AddOpts{RateLimited: true}, item)
}
