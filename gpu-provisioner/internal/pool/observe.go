// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// observeClaims reads the NodeClaims of this operator from the cache.
func (e *Engine) observeClaims(ctx context.Context, p *pass) error {
	var list karpv1.NodeClaimList
	if err := e.Client.List(ctx, &list); err != nil {
		return fmt.Errorf("listing NodeClaims: %w", err)
	}
	p.claims, p.objects = nil, map[string]*karpv1.NodeClaim{}
	live := map[types.UID]bool{}
	for i := range list.Items {
		nc := &list.Items[i]
		if !e.Manages(nc) {
			continue
		}
		p.objects[nc.Name] = nc
		live[nc.UID] = true
		p.claims = append(p.claims, e.claim(ctx, nc))
	}
	e.prune(live)
	return nil
}

// prune deletes what the engine keeps for claims that no longer exist.
func (e *Engine) prune(live map[types.UID]bool) {
	maps.DeleteFunc(e.assigned, func(uid types.UID, _ assignment) bool { return !live[uid] })
	maps.DeleteFunc(e.seen, func(uid types.UID, _ time.Time) bool { return !live[uid] })
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.waits, func(uid types.UID, _ Wait) bool { return !live[uid] })
	maps.DeleteFunc(e.released, func(uid types.UID, _ time.Time) bool { return !live[uid] })
}

// claim returns what Decide needs of a NodeClaim.
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
		// The binding is written, but the cache does not show it yet.
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
		// Without Karpenter's finalizer, the claim could be deleted while its machine is being created.
		return c
	}
	e.place(ctx, nc, &c)
	return c
}

func hasFinalizer(nc *karpv1.NodeClaim) bool {
	return controllerutil.ContainsFinalizer(nc, karpv1.TerminationFinalizer)
}

// place sets the pools that can serve a waiting claim, or the reason why none can.
func (e *Engine) place(ctx context.Context, nc *karpv1.NodeClaim, c *Claim) {
	class, err := e.ClassOf(ctx, nc)
	if err != nil {
		var notReady *ClassError
		reason := karpenterv1alpha5.ReasonNodeClassNotReady
		if !errors.As(err, &notReady) {
			log.FromContext(ctx).Error(err, "Reading a node class", "NodeClaim", client.ObjectKeyFromObject(nc))
		}
		e.setWait(nc.UID, Wait{Claim: nc.Name, Reason: reason, Message: err.Error()})
		return
	}
	view, _ := e.Cache.View()
	keys, err := Placements(nc, class, view.Cluster.Location)
	if err != nil {
		c.Keys = []string{"-"} // no pool has this key
		c.Unavailable = &azure.Error{
			Reason: karpenterv1alpha5.ReasonInvalidRequest, Class: azure.ClassTerminal, Message: err.Error(),
		}
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

// ClassError is the reason why a node class cannot be used.
type ClassError struct{ Message string }

func (e *ClassError) Error() string { return e.Message }

func (e *Engine) setWait(uid types.UID, w Wait) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waits[uid] = w
}
