// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Reservations keep two Workspaces that are reconciled at the same time from choosing the same existing node. The
// choice is stored in the Workspaces' status; reservations cover the time until the caches show it.
type Reservations struct {
	mu    sync.Mutex
	taken map[string]types.UID
}

// NewReservations returns an empty set.
func NewReservations() *Reservations { return &Reservations{taken: map[string]types.UID{}} }

// Take reserves a node for a Workspace. It returns false where another Workspace has reserved it.
func (r *Reservations) Take(node string, workspace types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner, ok := r.taken[node]; ok && owner != workspace {
		return false
	}
	r.taken[node] = workspace
	return true
}

// Keep releases all nodes of a Workspace except those in nodes.
func (r *Reservations) Keep(workspace types.UID, nodes map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, owner := range r.taken {
		if owner == workspace && !nodes[name] {
			delete(r.taken, name)
		}
	}
}
