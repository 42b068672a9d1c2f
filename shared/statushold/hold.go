// SPDX-License-Identifier: Apache-2.0

package statushold

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Holds are the statuses, of type S, that are held back. A process that ends loses them: the next pass computes them
// again.
type Holds[S any] struct {
	clock clock.PassiveClock
	limit time.Duration

	mu   sync.Mutex
	held map[types.UID]held[S]
}

type held[S any] struct {
	since  time.Time
	status S
}

// New returns an empty set. A status is held back for limit at most; 0 holds nothing back.
func New[S any](clk clock.PassiveClock, limit time.Duration) *Holds[S] {
	return &Holds[S]{clock: clk, limit: limit, held: map[types.UID]held[S]{}}
}

// Get returns the status of an object that is held back, and whether there is one. The pass continues from it as if it
// had been written.
func (h *Holds[S]) Get(uid types.UID) (S, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept, ok := h.held[uid]
	return kept.status, ok
}

// Hold holds back a status and returns for how much longer. It returns 0 where the status must be written now: because
// it does not report only progress, or because one was held back for the limit.
func (h *Holds[S]) Hold(uid types.UID, status S, onlyProgress bool) time.Duration {
	now := h.clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	kept, ok := h.held[uid]
	if !ok {
		kept.since = now
	}
	left := h.limit - now.Sub(kept.since)
	if left <= 0 || !onlyProgress {
		delete(h.held, uid)
		return 0
	}
	kept.status = status
	h.held[uid] = kept
	return left
}

// Forget drops the status of an object that is gone, or whose status is as the API server has it.
func (h *Holds[S]) Forget(uid types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, uid)
}
