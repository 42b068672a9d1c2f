// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Priorities of events. What has come further goes first: a node that is there costs money until its model is served,
// while one that is asked for a second later costs nothing. It cannot starve new Workspaces, since a Workspace goes
// through each stage once.
const (
	ofHeld   = -1 // a status that is kept back: while there is other work, news may still save its write
	ofPlace  = 10 // claims, nodes and tuning
	ofServer = 20 // what serves
)

// first gives a priority to the events of a handler that have none.
func first(priority int, h handler.EventHandler) handler.EventHandler {
	return prioritized{EventHandler: h, priority: priority}
}

type prioritized struct {
	handler.EventHandler
	priority int
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (p prioritized) raise(q queue) queue {
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		return raised{PriorityQueue: pq, priority: p.priority}
	}
	return q
}

// Create passes a creation on.
func (p prioritized) Create(ctx context.Context, e event.CreateEvent, q queue) {
	p.EventHandler.Create(ctx, e, p.raise(q))
}

// Update passes an update on.
func (p prioritized) Update(ctx context.Context, e event.UpdateEvent, q queue) {
	p.EventHandler.Update(ctx, e, p.raise(q))
}

// Delete passes a deletion on.
func (p prioritized) Delete(ctx context.Context, e event.DeleteEvent, q queue) {
	p.EventHandler.Delete(ctx, e, p.raise(q))
}

// Generic passes any other event on.
func (p prioritized) Generic(ctx context.Context, e event.GenericEvent, q queue) {
	p.EventHandler.Generic(ctx, e, p.raise(q))
}

// raised is a queue whose items have a priority where none is given: those of a first list have a low one.
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
