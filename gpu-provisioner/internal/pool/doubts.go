// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Doubts are the doubts about one view.
type Doubts struct {
	// At is the At of that view. Doubts do not apply to another view.
	At    time.Time
	pools map[string]Doubt
}

// NewDoubts returns the doubts, by agent pool, about the view that was read at a time.
func NewDoubts(at time.Time, pools map[string]Doubt) Doubts { return Doubts{At: at, pools: pools} }

// Of returns why a machine that the view lacks may still run, or false.
func (d Doubts) Of(providerID string) (string, bool) {
	doubt, ok := d.pools[azure.PoolOf(providerID)]
	return doubt.Message, ok && slices.Contains(doubt.Machines, providerID)
}

// Machines returns, by agent pool, the machines that the view lacks and that may still run.
func (d Doubts) Machines() map[string][]string {
	out := map[string][]string{}
	for name, doubt := range d.pools {
		if len(doubt.Machines) > 0 {
			out[name] = doubt.Machines
		}
	}
	return out
}

// Doubts returns the doubts about the view of the last pass.
func (e *Engine) Doubts() Doubts {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.doubts
}

// publishDoubts makes the doubts visible to the provider and the metric, and logs changes. reportUnmanaged reports them
// on the claims.
func (e *Engine) publishDoubts(ctx context.Context, view *azure.View, doubts map[string]Doubt) {
	before := e.Doubts().pools
	e.mu.Lock()
	e.doubts = NewDoubts(view.At, doubts)
	e.mu.Unlock()
	e.Metrics.doubts.Set(float64(len(doubts)))
	logger := log.FromContext(ctx)
	for name, doubt := range doubts {
		if _, old := before[name]; old {
			continue
		}
		e.doubtedAt[name] = e.Clock.Now()
		logger.Info("Leaving an agent pool alone", "pool", name, "why", doubt.Message)
	}
	for name := range before {
		if _, still := doubts[name]; !still {
			delete(e.doubtedAt, name)
			logger.Info("The list of an agent pool's machines is correct again", "pool", name)
		}
	}
}

// inDoubt returns the message for the claims of an agent pool that has been in doubt for longer than Grace, or "".
func (e *Engine) inDoubt(pool string) string {
	doubt, ok := e.Doubts().pools[pool]
	if !ok || e.Clock.Since(e.doubtedAt[pool]) < e.Settings.Grace {
		return ""
	}
	return fmt.Sprintf("agent pool %s is not changed until the list of its machines is correct: %s", pool, doubt.Message)
}
