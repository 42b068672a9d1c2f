// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// observeClaims turns the NodeClaims of ours into what Decide wants.
func (e *Engine) observeClaims(ctx context.Context) ([]Claim, map[string]*karpv1.NodeClaim, error) {
	var list karpv1.NodeClaimList
	if err := e.Client.List(ctx, &list); err != nil {
		return nil, nil, fmt.Errorf("listing NodeClaims: %w", err)
	}
	objects := map[string]*karpv1.NodeClaim{}
	live := map[types.UID]bool{}
	var out []Claim
	for i := range list.Items {
		nc := &list.Items[i]
		if !e.Manages(nc) {
			continue
		}
		objects[nc.Name] = nc
		live[nc.UID] = true
		out = append(out, e.claim(ctx, nc))
	}
	e.prune(live)
	return out, objects, nil
}

// prune forgets what was kept for claims that are no more.
func (e *Engine) prune(live map[types.UID]bool) {
	for uid := range e.assigned {
		if !live[uid] {
			delete(e.assigned, uid)
		}
	}
	for uid := range e.seen {
		if !live[uid] {
			delete(e.seen, uid)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for uid := range e.waits {
		if !live[uid] {
			delete(e.waits, uid)
		}
	}
	for uid := range e.released {
		if !live[uid] {
			delete(e.released, uid)
		}
	}
}

func (e *Engine) claim(ctx context.Context, nc *karpv1.NodeClaim) Claim {
	conditions := nc.StatusConditions()
	if _, ok := e.seen[nc.UID]; !ok {
		e.seen[nc.UID] = e.Clock.Now()
	}
	c := Claim{
		Name: nc.Name, UID: string(nc.UID), Created: nc.CreationTimestamp.Time, Seen: e.seen[nc.UID],
		ProviderID: ProviderIDOf(nc), Bound: boundAt(nc),
		Registered: conditions.Get(karpv1.ConditionTypeRegistered).IsTrue(),
		Deleting:   !nc.DeletionTimestamp.IsZero(),
	}
	if c.ProviderID != "" {
		delete(e.assigned, nc.UID)
	} else if a, ok := e.assigned[nc.UID]; ok {
		// Written, but the cache does not show it yet: without this the machine would look free.
		c.ProviderID, c.Bound = a.providerID, a.at
	}
	if c.Deleting {
		e.mu.RLock()
		at, asked := e.released[nc.UID]
		e.mu.RUnlock()
		c.ReleasedAt = at
		c.Released = c.ProviderID != "" &&
			(asked || conditions.Get(karpv1.ConditionTypeInstanceTerminating).IsTrue() || !hasFinalizer(nc))
		return c
	}
	_, failed := FailureOf(nc)
	if c.ProviderID != "" || failed || !hasFinalizer(nc) {
		// Without core's finalizer the claim could vanish while its machine is being made.
		return c
	}
	e.place(ctx, nc, &c)
	return c
}

func hasFinalizer(nc *karpv1.NodeClaim) bool {
	return controllerutil.ContainsFinalizer(nc, karpv1.TerminationFinalizer)
}

// place fills in which pools may serve a waiting claim, or why none may.
func (e *Engine) place(ctx context.Context, nc *karpv1.NodeClaim, c *Claim) {
	class, err := e.ClassOf(ctx, nc)
	if err != nil {
		var notReady *ClassError
		reason := ReasonNodeClassNotReady
		if !errors.As(err, &notReady) {
			log.FromContext(ctx).Error(err, "Reading a node class", "NodeClaim", client.ObjectKeyFromObject(nc))
		}
		e.setWait(nc.UID, Wait{Claim: nc.Name, Reason: reason, Message: err.Error()})
		return
	}
	view, _ := e.Cache.View()
	keys, err := Placements(nc, class, view.Cluster.Location)
	if err != nil {
		c.Keys = []string{"-"} // no pool has that key
		c.Unavailable = &azure.Error{Reason: azure.ReasonInvalidRequest, Class: azure.ClassTerminal, Message: err.Error()}
		return
	}
	for _, key := range keys {
		hash := key.Hash()
		e.keys[hash] = keyInfo{key: key, max: class.MaxNodesPerPool}
		c.Keys = append(c.Keys, hash)
		if c.Target != "" {
			continue
		}
		size, _ := e.SizeOf(key.Size)
		if unavailable := e.memory.Unavailable(key.Offering(size.Family)); unavailable != nil {
			if c.Unavailable == nil {
				c.Unavailable = unavailable
			}
			continue
		}
		c.Target = hash
	}
	if c.Target != "" {
		c.Unavailable = nil
	}
}

// ReasonNodeClassNotReady is the reason of a claim whose node class is missing or not Ready.
const ReasonNodeClassNotReady = "NodeClassNotReady"

// ClassError says why a node class cannot be used.
type ClassError struct{ Message string }

func (e *ClassError) Error() string { return e.Message }

func (e *Engine) setWait(uid types.UID, w Wait) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waits[uid] = w
}

// lookEvery is how much more seldom than the list of pools a running operation is looked at. The list, one call for all
// pools, shows when an operation is over; to look at each is for what the list does not tell, and for the case that it
// lags.
const lookEvery = 6

// lookAtOperations looks once at every operation that is due.
func (e *Engine) lookAtOperations(ctx context.Context) {
	now := e.Clock.Now()
	for name, op := range e.operations {
		if !op.Ended.IsZero() || op.Forgotten || now.Before(op.NextLook) {
			continue
		}
		if e.look(ctx, name, op, now) {
			e.Cache.Invalidate(name)
		}
	}
}

// conclude looks at the operations of pools that the view shows at rest, or no more, and says whether one of them is
// over.
func (e *Engine) conclude(ctx context.Context, view *azure.View) bool {
	over, now := false, e.Clock.Now()
	for name, op := range e.operations {
		pool, found := view.Pool(name)
		if !op.Ended.IsZero() || !view.At.After(op.Started) || found && !pool.Settled() {
			continue
		}
		// The list was read after the operation had ended: what it shows is the result.
		looked := !op.Forgotten && !now.Before(op.NotBefore) && e.look(ctx, name, op, view.At)
		if !looked && !e.endAsPoolSays(ctx, name, pool, view) {
			continue
		}
		over = true
		if found && pool.MachinesAt.Before(view.At) {
			e.Cache.Invalidate(name)
		}
	}
	return over
}

// look looks once at an operation, and says whether it is over; ended is since when at the latest.
func (e *Engine) look(ctx context.Context, name string, op Operation, ended time.Time) bool {
	progress, err := azure.Progress{Done: true}, error(nil)
	if op.Token != "" {
		progress, err = e.Azure.Look(ctx, op.Handle)
	}
	now := e.Clock.Now()
	switch {
	case err != nil:
		e.lookLater(ctx, &op, err)
	case progress.Lost:
		log.FromContext(ctx).Info("Azure does not know an operation any more", "pool", name, "kind", op.Kind)
		op.Forgotten = true
		e.unread(&op)
	case progress.Done:
		op.Ended = ended
		e.ended(ctx, op, progress.Err)
	default:
		op.FailedLooks, op.Unread = 0, time.Time{}
		op.NotBefore = now.Add(max(progress.Next, time.Second))
		op.NextLook = now.Add(max(progress.Next, lookEvery*e.Intervals.Active))
	}
	e.operations[name] = op
	return err == nil && progress.Done
}

// ended draws the conclusions from an operation's result.
func (e *Engine) ended(ctx context.Context, op Operation, err *azure.Error) {
	logger := log.FromContext(ctx).
		WithValues("pool", op.Pool, "kind", op.Kind, "took", e.Clock.Since(op.Started).Round(time.Second).String())
	e.Metrics.operation(op, err, e.Clock.Since(op.Started))
	if err == nil && op.Aborted.IsZero() {
		e.Preflight.Settle(op.Pool)
		logger.Info("Finished an operation")
		e.release(op.Pool)
		e.release(op.Key)
		return
	}
	if !op.Aborted.IsZero() {
		err = &azure.Error{
			Reason: ReasonOperationTimedOut,
			Class:  azure.ClassTransient,
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
		e.hold(op.Key, err) // the claims see why, and no other pool is opened meanwhile
	}
}

// arrived counts the machines that a failed put has brought, as far as the view shows them.
func (e *Engine) arrived(op Operation) int {
	view, _ := e.Cache.View()
	pool, ok := view.Pool(op.Pool)
	if !ok || op.Kind != azure.OperationPut {
		return 0
	}
	return max(0, len(pool.Machines)-(op.Target-op.Asked))
}

// ReasonOperationTimedOut is the reason of claims whose request hung.
const ReasonOperationTimedOut = "OperationTimedOut"

// remember keeps a failed offering for everybody, and shows it.
func (e *Engine) remember(ctx context.Context, key string, err *azure.Error) {
	info, ok := e.keys[key]
	if !ok {
		// The claims that asked are gone and the process was restarted since: nobody to tell, nothing to remember it by.
		return
	}
	size, _ := e.SizeOf(info.key.Size)
	entry, ok := e.memory.Fail(info.key.Offering(size.Family), err)
	if !ok {
		return
	}
	log.FromContext(ctx).
		Info("Remembering an offering as unavailable", "size", entry.Size, "zone", entry.Zone, "capacityType", entry.CapacityType, "reason", entry.Reason, "until", entry.Until)
}
