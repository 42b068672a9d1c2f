// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// actor carries out one decision.
type actor struct {
	*Engine
	view     *azure.View
	claims   map[string]*karpv1.NodeClaim
	writable bool // the cluster was running at the last check
	checked  bool
	changed  bool // operations has changed
}

// act carries out the decision: first the actions that only touch claims, then the writes to Azure. A failed action
// does not stop the others.
func (e *Engine) act(ctx context.Context, p *pass) error {
	a := &actor{Engine: e, view: &p.view, claims: p.objects}
	var errs []error
	for _, action := range p.decision.Actions {
		if !Writes(action) {
			errs = append(errs, a.local(ctx, action))
		}
	}
	for _, action := range p.decision.Actions {
		if Writes(action) {
			errs = append(errs, a.write(ctx, action))
		}
	}
	e.unsaved = e.unsaved || a.changed
	return errors.Join(append(errs, e.save(ctx))...)
}

// save writes the operations to their ConfigMap if they have changed. A failed save is retried in the next pass.
func (e *Engine) save(ctx context.Context) error {
	if !e.unsaved {
		return nil
	}
	err := Save(ctx, e.Operations, e.operations)
	e.unsaved = err != nil
	return err
}

// forget drops the operations whose result the view shows.
func (e *Engine) forget(pools []string) {
	for _, name := range pools {
		delete(e.operations, name)
		e.unsaved = true
	}
}

func (a *actor) local(ctx context.Context, action Action) error {
	switch x := action.(type) {
	case Bind:
		return a.bind(ctx, x)
	case Fail:
		return a.fail(ctx, x.Claim, x.Err)
	case Lose:
		return a.lose(ctx, x)
	case Wait:
		if nc := a.claims[x.Claim]; nc != nil {
			a.setWait(nc.UID, x)
		}
	}
	return nil
}

// write carries out one write to Azure, if the cluster is running.
func (a *actor) write(ctx context.Context, action Action) error {
	if !a.clusterRuns(ctx) {
		a.waitForCluster(action)
		return nil
	}
	switch x := action.(type) {
	case Create:
		return a.create(ctx, x)
	case Grow:
		return a.grow(ctx, x)
	case Shrink:
		return a.shrink(ctx, x)
	case Remove:
		pool, _ := a.view.Pool(x.Pool)
		err := a.start(
			ctx, Operation{Key: pool.Key()}, pool.Name, func() (azure.Handle, error) { return a.Azure.DeletePool(ctx, pool) },
		)
		if err == nil {
			a.Metrics.surplus.Add(float64(len(x.Surplus)))
		}
		return nil
	case Reset:
		pool, _ := a.view.Pool(x.Pool)
		_ = a.start(
			ctx, Operation{Key: pool.Key(), Target: x.Count}, pool.Name,
			func() (azure.Handle, error) { return a.Azure.ResizePool(ctx, pool, x.Count) },
		) // start has logged the error and held the pool
		return nil
	case Abort:
		return a.abort(ctx, x)
	}
	return nil
}

// clusterRuns reads the cluster's state once in a pass.
func (a *actor) clusterRuns(ctx context.Context) bool {
	if a.checked {
		return a.writable
	}
	a.checked = true
	cluster, err := a.Cache.Recheck(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "Checking that the cluster runs")
		return false
	}
	a.writable = cluster.Writable()
	a.view.Cluster = cluster
	return a.writable
}

func (a *actor) waitForCluster(action Action) {
	var names []string
	switch x := action.(type) {
	case Create:
		names = x.Claims
	case Grow:
		names = x.Claims
	}
	for _, name := range names {
		if nc := a.claims[name]; nc != nil {
			a.setWait(nc.UID, Wait{
				Claim: name, Reason: karpenterv1alpha5.ReasonClusterNotRunning, Message: notRunning(a.view.Cluster),
			})
		}
	}
}

func (a *actor) shrink(ctx context.Context, s Shrink) error {
	pool, _ := a.view.Pool(s.Pool)
	var names []string
	for _, m := range pool.Machines {
		if slices.Contains(s.ProviderIDs, m.ProviderID) {
			names = append(names, m.Name)
		}
	}
	err := a.start(ctx, Operation{Key: pool.Key(), Machines: s.ProviderIDs}, s.Pool, func() (azure.Handle, error) {
		return a.Azure.DeleteMachines(ctx, s.Pool, names)
	})
	if err == nil {
		a.Metrics.surplus.Add(float64(len(s.Surplus)))
	}
	return nil
}

func (a *actor) abort(ctx context.Context, x Abort) error {
	op, noted := a.operations[x.Pool]
	if !noted {
		pool, _ := a.view.Pool(x.Pool)
		op = Operation{Key: pool.Key(), Of: a.keys[pool.Key()].key, Started: x.Started}
	}
	h, err := a.Azure.Abort(ctx, x.Pool)
	if err != nil {
		a.hold(x.Pool, azure.Classify(err))
		log.FromContext(ctx).Error(err, "Aborting an operation that has timed out", "pool", x.Pool)
		return nil
	}
	log.FromContext(ctx).Info("Aborting an operation that has timed out", "pool", x.Pool, "since", op.Started)
	op.Handle, op.Aborted, op.NextPoll = h, a.Clock.Now(), a.Clock.Now()
	op.NotBefore, op.FailedPolls, op.Forgotten, op.UnknownSince = time.Time{}, 0, false, time.Time{}
	a.operations[x.Pool] = op
	a.changed = true
	a.Cache.Invalidate(x.Pool)
	return nil
}

// start makes one write and records its operation. A failed write holds the pool, and the key as well if it was to
// create machines. The pool is read again before the next decision about it.
func (a *actor) start(ctx context.Context, op Operation, pool string, write func() (azure.Handle, error)) error {
	defer a.Cache.Invalidate(pool)
	logger := log.FromContext(ctx).WithValues("pool", pool, "target", op.Target, "machines", len(op.Machines))
	h, err := write()
	if err != nil {
		failed := azure.Classify(err)
		logger.Info("A write was refused", "reason", failed.Reason, "class", failed.Class, "message", failed.Error())
		switch failed.Class {
		case azure.ClassCapacity:
			a.remember(ctx, op.Key, failed)
		case azure.ClassConfig, azure.ClassTerminal:
			a.hold(pool, failed)
			if op.Target > 0 {
				a.hold(op.Key, failed)
			}
		default:
			a.hold(pool, failed)
		}
		a.Wake()
		return failed
	}
	op.Handle, op.Started = h, a.Clock.Now()
	op.Of = a.keys[op.Key].key
	op.NextPoll = op.Started.Add(pollFactor * a.Intervals.Active)
	a.operations[pool] = op
	a.changed = true
	logger.Info("Started an operation", "kind", h.Kind)
	return nil
}

// saveOfferings writes the unavailable offerings to their ConfigMap if they have changed.
func (e *Engine) saveOfferings(ctx context.Context) {
	entries := map[string]offering.Entry{}
	for _, entry := range e.memory.Entries() {
		entries[entry.Key()] = entry
	}
	if maps.Equal(entries, e.shown) {
		return
	}
	if err := Save(ctx, e.Offerings, entries); err != nil {
		log.FromContext(ctx).Error(err, "Saving unavailable offerings")
		return
	}
	e.shown = entries
	e.Metrics.observeOfferings(entries)
}
