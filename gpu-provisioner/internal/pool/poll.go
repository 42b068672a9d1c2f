// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// pollFactor is the ratio between the intervals at which a running operation and the list of pools are read. The list
// is one call for all pools and shows when an operation has ended. A poll is needed for what the list does not contain,
// and when the list lags.
const pollFactor = 6

// pollOperations polls each running operation that is due.
func (e *Engine) pollOperations(ctx context.Context) {
	now := e.Clock.Now()
	for name, op := range e.operations {
		if !op.Ended.IsZero() || op.Forgotten || now.Before(op.NextPoll) {
			continue
		}
		if e.poll(ctx, name, op, now) {
			e.Cache.Invalidate(name)
		}
	}
}

// concludeOperations ends the operations of pools that the view shows as settled or deleted. If one has ended, it
// observes the claims again: its failure can make an offering unavailable, so that claims ask for another one.
func (e *Engine) concludeOperations(ctx context.Context, p *pass) error {
	ended, now := false, e.Clock.Now()
	for name, op := range e.operations {
		pool, found := p.view.Pool(name)
		if !op.Ended.IsZero() || !p.view.At.After(op.Started) || found && !pool.Settled() {
			continue
		}
		// The list was read after the operation had ended, so it shows the result.
		polled := !op.Forgotten && !now.Before(op.NotBefore) && e.poll(ctx, name, op, p.view.At)
		if !polled && !e.finishFromPool(ctx, name, pool, &p.view) {
			continue
		}
		ended = true
		if found && pool.MachinesAt.Before(p.view.At) {
			e.Cache.Invalidate(name)
		}
	}
	if !ended {
		return nil
	}
	return e.observeClaims(ctx, p)
}

// poll reads the progress of an operation once. It returns whether the operation has ended; endedAt is the latest time
// at which it can have ended.
func (e *Engine) poll(ctx context.Context, name string, op Operation, endedAt time.Time) bool {
	progress, err := azure.Progress{Done: true}, error(nil)
	if op.Token != "" {
		progress, err = e.Azure.Poll(ctx, op.Handle)
	}
	now := e.Clock.Now()
	switch {
	case err != nil:
		e.pollLater(ctx, &op, err)
	case progress.Lost:
		log.FromContext(ctx).Info("Azure no longer knows an operation", "pool", name, "kind", op.Kind)
		op.Forgotten = true
		e.readPoolState(&op)
	case progress.Done:
		op.Ended = endedAt
		e.finish(ctx, op, progress.Err)
	default:
		op.FailedPolls, op.UnknownSince = 0, time.Time{}
		op.NotBefore = now.Add(max(progress.Next, time.Second))
		op.NextPoll = now.Add(max(progress.Next, pollFactor*e.Intervals.Active))
	}
	e.operations[name] = op
	return err == nil && progress.Done
}

// finish handles the result of an operation that has ended.
func (e *Engine) finish(ctx context.Context, op Operation, err *azure.Error) {
	took := e.Clock.Since(op.Started)
	logger := log.FromContext(ctx).WithValues("pool", op.Pool, "kind", op.Kind, "took", took.Round(time.Second).String())
	e.Metrics.operation(op, err, took)
	if err == nil && op.Aborted.IsZero() {
		e.Preflight.Settle(op.Pool)
		logger.Info("Finished an operation")
		e.dropHold(op.Pool)
		e.dropHold(op.Key)
		return
	}
	if !op.Aborted.IsZero() {
		err = &azure.Error{
			Reason: karpenterv1alpha5.ReasonOperationTimedOut, Class: azure.ClassTransient,
			Message: fmt.Sprintf(
				"the request for agent pool %s did not finish within %s and was aborted", op.Pool, e.Settings.OperationTimeout,
			),
		}
	}
	e.Preflight.Refund(op.Pool, e.arrived(op))
	logger.Info("An operation failed", "reason", err.Reason, "message", err.Error())
	if err.Class == azure.ClassCapacity {
		e.remember(ctx, op.Key, err)
		return
	}
	e.hold(op.Pool, err)
	if op.Kind == azure.OperationPut || !op.Aborted.IsZero() {
		e.hold(op.Key, err) // the claims show the reason, and no other pool is created until then
	}
}

// arrived returns how many machines a failed put has created, as far as the view shows them.
func (e *Engine) arrived(op Operation) int {
	view, _ := e.Cache.View()
	pool, ok := view.Pool(op.Pool)
	if !ok || op.Kind != azure.OperationPut {
		return 0
	}
	return max(0, len(pool.Machines)-(op.Target-op.Asked))
}

// remember marks a failed offering as unavailable for all claims.
func (e *Engine) remember(ctx context.Context, key string, err *azure.Error) {
	info, ok := e.keys[key]
	if !ok {
		// The process was restarted, and the claims of that key no longer exist.
		return
	}
	size, _ := e.SizeOf(info.key.Size)
	entry, ok := e.memory.Fail(info.key.Offering(size.Family), err)
	if !ok {
		return
	}
	log.FromContext(ctx).Info("Marking an offering as unavailable", "size", entry.Size, "zone", entry.Zone,
		"capacityType", entry.CapacityType, "reason", entry.Reason, "until", entry.Until)
}
