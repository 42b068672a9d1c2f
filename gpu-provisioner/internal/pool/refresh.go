// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// readLocation reads Azure in the first pass, before the claims: the zones that a claim may use depend on the location.
func (e *Engine) readLocation(ctx context.Context) error {
	if view, _ := e.Cache.View(); !view.At.IsZero() {
		return nil
	}
	return e.refresh(ctx, active)
}

// readPools renews the view of the agent pools as often as the claims need it.
func (e *Engine) readPools(ctx context.Context, p *pass) error {
	p.pace = e.pace(p.claims)
	if err := e.refresh(ctx, p.pace); err != nil {
		return err
	}
	p.view, _ = e.Cache.View()
	return nil
}

// refresh renews the view when a part of it is invalid, or when it is older than the interval of the pace.
func (e *Engine) refresh(ctx context.Context, pace pace) error {
	view, lastErr := e.Cache.View()
	interval := e.interval(pace, &view)
	if lastErr == nil && !e.Cache.Stale() && e.Clock.Since(view.At) < interval {
		return nil
	}
	if hold, ok := e.holds[holdRefresh]; ok && e.Clock.Now().Before(hold.Until) {
		return hold.Err
	}
	if !e.Azure.Spare() {
		// The rest of the rate limit is for writes.
		hold := Hold{Until: e.Clock.Now().Add(2 * time.Second), Err: azure.Throttled(2 * time.Second)}
		e.holds[holdRefresh] = hold
		return hold.Err
	}
	e.invalidateSighted(&view)
	// Machines of a pool that did not change are read at the idle interval, also when other pools are active.
	err := e.Cache.Refresh(ctx, e.interval(idle, &view))
	if err != nil {
		e.hold(holdRefresh, azure.Classify(err))
		return err
	}
	e.dropHold(holdRefresh)
	return nil
}

const holdRefresh = "refresh"

// invalidateSighted makes the next refresh read the pools for which Decide has an unconfirmed sighting or a doubt.
func (e *Engine) invalidateSighted(view *azure.View) {
	doubts := e.Doubts().pools
	for i := range view.Pools {
		p := &view.Pools[i]
		_, counted := e.sightings[sightCount(p.Name)]
		_, doubted := doubts[p.Name]
		if counted || doubted || e.sightedMachine(p) {
			e.Cache.Doubt(p.Name)
		}
	}
}

// sightedMachine returns whether there is a sighting of a machine in the pool.
func (e *Engine) sightedMachine(p *azure.Pool) bool {
	for _, m := range p.Machines {
		_, free := e.sightings[sightMachine(m.ProviderID)]
		_, surge := e.sightings[sightSurge(m.ProviderID)]
		if free || surge {
			return true
		}
	}
	return false
}

// postpone reports on each waiting claim why Azure cannot be read, and returns the time until the next pass.
func (e *Engine) postpone(ctx context.Context, p *pass, err error) time.Duration {
	reason := azure.Classify(err)
	e.mu.Lock()
	for i := range p.claims {
		if c := &p.claims[i]; c.waiting() {
			e.waits[types.UID(c.UID)] = Wait{Claim: c.Name, Reason: reason.Reason, Message: reason.Explain()}
		}
	}
	e.mu.Unlock()
	if reason.Class == azure.ClassThrottle {
		// A rate limit, ours or Azure's, is not a failure, and can last for minutes.
		log.FromContext(ctx).V(1).Info("Reading the cluster's agent pools later", "after", reason.RetryAfter.String())
	} else {
		log.FromContext(ctx).Error(err, "Reading the cluster's agent pools")
	}
	return max(time.Second, e.holds[holdRefresh].Until.Sub(e.Clock.Now()))
}
