// SPDX-License-Identifier: Apache-2.0

package gpubudget

import (
	"context"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// notifier passes names to a controller's queue. notify never blocks, and the names are bounded by the objects that
// exist.
type notifier struct {
	mu      sync.Mutex
	pending map[types.NamespacedName]bool
	signal  chan struct{}
}

func newNotifier() *notifier {
	return &notifier{pending: map[types.NamespacedName]bool{}, signal: make(chan struct{}, 1)}
}

func (n *notifier) notify(names ...types.NamespacedName) {
	if len(names) == 0 {
		return
	}
	n.mu.Lock()
	for _, name := range names {
		n.pending[name] = true
	}
	n.mu.Unlock()
	select {
	case n.signal <- struct{}{}:
	default: // a signal is pending already
	}
}

// take returns the pending names in order and forgets them.
func (n *notifier) take() []types.NamespacedName {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []types.NamespacedName
	for name := range n.pending {
		out = append(out, name)
	}
	clear(n.pending)
	slices.SortFunc(out, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return out
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// source returns the source of a controller that enqueues the names.
func (n *notifier) source(enqueue func(queue, reconcile.Request)) source.Source {
	return source.Func(func(ctx context.Context, q queue) error {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-n.signal:
				}
				for _, name := range n.take() {
					enqueue(q, reconcile.Request{NamespacedName: name})
				}
			}
		}()
		return nil
	})
}
