// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
)

// holds keep a status back for a moment that says only that work goes on. What comes soon after, a claim that is taken
// or a server that starts, is then told by the same write: where many Workspaces are made at once, statuses are most of
// what the API server works on. What a person waits for or must act on is never kept back: see goesOn.
type holds struct {
	clock clock.PassiveClock
	limit time.Duration

	mu   sync.Mutex
	held map[types.UID]held
}

type held struct {
	since  time.Time
	status *kaitov1alpha1.WorkspaceStatus
}

// resume gives a Workspace the status that is kept back, if one is, as if it had been written: the pass goes on from
// it.
func (h *holds) resume(w *kaitov1alpha1.Workspace) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept, ok := h.held[w.UID]
	if ok {
		kept.status.DeepCopyInto(&w.Status)
	}
	return ok
}

// hold says for how long the status is still to be kept back; 0: it is to be written now.
func (h *holds) hold(s *scope, failed error) time.Duration {
	uid, now := s.workspace.UID, h.clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	kept, ok := h.held[uid]
	if !ok {
		kept.since = now
	}
	left := h.limit - now.Sub(kept.since)
	if left <= 0 || failed != nil || !s.goesOn() {
		delete(h.held, uid)
		return 0
	}
	kept.status = s.workspace.Status.DeepCopy()
	h.held[uid] = kept
	return left
}

// forget is for a Workspace that has gone, or whose status is as it was read.
func (h *holds) forget(uid types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, uid)
}

// reasonsOfWork are those of work that goes on and has met no trouble.
var reasonsOfWork = []string{
	kaitov1alpha1.ReasonPending,
	kaitov1alpha1.ReasonProvisioning,
	kaitov1alpha1.ReasonStarting,
	kaitov1alpha1.ReasonTuning,
}

// goesOn says whether the status tells of nothing but progress: no verdict was there or is there now, nothing has got
// worse, nothing is worth an event, and no node is taken that other Workspaces must know of.
func (s *scope) goesOn() bool {
	before, now := s.before, s.workspace
	switch c := conditions.Get(now, conditions.Reconciling); {
	case c == nil || !conditions.IsTrue(now, conditions.Reconciling) || !slices.Contains(reasonsOfWork, c.Reason):
		return false
	case conditions.IsTrue(before, conditions.Ready), conditions.IsTrue(before, conditions.Stalled):
		return false
	case len(s.changes) > 0, len(s.own) > 0, len(before.Status.Attempts) != len(now.Status.Attempts):
		return false
	}
	for _, c := range before.Status.Conditions {
		if c.Type != conditions.Reconciling && conditions.IsTrue(before, c.Type) && !conditions.IsTrue(now, c.Type) {
			return false
		}
	}
	return true
}
