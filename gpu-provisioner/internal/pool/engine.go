// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoevents "k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/gpu-provisioner/internal/quota"
	"kaito.sh/shared/events"
)

// Azure writes to agent pools. *azure.ARM implements it.
type Azure interface {
	azure.Reader
	CreatePool(ctx context.Context, name string, spec azure.Spec) (azure.Handle, error)
	ResizePool(ctx context.Context, pool *azure.Pool, count int) (azure.Handle, error)
	DeletePool(ctx context.Context, pool *azure.Pool) (azure.Handle, error)
	DeleteMachines(ctx context.Context, pool string, names []string) (azure.Handle, error)
	Abort(ctx context.Context, pool string) (azure.Handle, error)
	Poll(ctx context.Context, h azure.Handle) (azure.Progress, error)
}

// Size has what the engine needs of a VM size.
type Size struct {
	VCPUs  int64
	Family string // quota family
}

// Intervals are the maximum ages of the view of Azure.
type Intervals struct {
	// Active is the interval while claims or operations are in progress.
	Active time.Duration
	// Idle is the interval otherwise.
	Idle time.Duration
}

// EngineConfig is what an Engine needs.
type EngineConfig struct {
	Client     client.Client // reads from a cache
	Operations Records
	Offerings  Records
	Azure      Azure
	Cache      *azure.Cache
	Preflight  *quota.Preflight
	Events     clientgoevents.EventRecorder
	Clock      clock.PassiveClock
	Metrics    *Metrics
	Settings   Settings
	Intervals  Intervals
	// MaxPerPool is the limit of machines in a pool. A node class can override it for its own pools.
	MaxPerPool int
	// Manages returns whether the claim's node class is one of this operator.
	Manages func(*karpv1.NodeClaim) bool
	// ClassOf reads a claim's node class. An error is the reason why the claim is not launched.
	ClassOf func(context.Context, *karpv1.NodeClaim) (Class, error)
	// SizeOf returns the size of that name, or false if the catalogue does not have it.
	SizeOf func(string) (Size, bool)
}

// Engine makes the agent pools match the claims. One Pass reads everything, decides and acts, without waiting. Only one
// Pass runs at a time; the other methods are safe for concurrent use.
type Engine struct {
	EngineConfig
	memory *offering.Memory
	wake   chan struct{}

	// Used by Pass only.
	loaded     bool
	operations map[string]Operation
	unsaved    bool // operations has changes that are not saved
	holds      map[string]Hold
	failures   map[string]int // failed writes in a row, by the subject of the hold
	sightings  map[string]Sighting
	assigned   map[types.UID]assignment
	seen       map[types.UID]time.Time
	keys       map[string]keyInfo // by hash
	shown      map[string]offering.Entry
	doubtedAt  map[string]time.Time // start of the doubt, by pool

	retry atomic.Bool

	mu       sync.RWMutex
	waits    map[types.UID]Wait
	released map[types.UID]time.Time
	doubts   Doubts
}

// assignment is a Bind that the cache of claims may not show yet.
type assignment struct {
	providerID string
	at         time.Time
}

type keyInfo struct {
	key Key
	max int
}

// NewEngine returns an engine that has read nothing yet.
func NewEngine(c EngineConfig) *Engine {
	return &Engine{
		EngineConfig: c,
		memory:       offering.NewMemory(c.Clock),
		wake:         make(chan struct{}, 1),
		operations:   map[string]Operation{},
		holds:        map[string]Hold{},
		failures:     map[string]int{},
		sightings:    map[string]Sighting{},
		assigned:     map[types.UID]assignment{},
		seen:         map[types.UID]time.Time{},
		keys:         map[string]keyInfo{},
		shown:        map[string]offering.Entry{},
		waits:        map[types.UID]Wait{},
		released:     map[types.UID]time.Time{},
		doubtedAt:    map[string]time.Time{},
	}
}

// load reads the operations and the unavailable offerings of an earlier process. It runs in the first pass, not at the
// start, when another replica can still be the leader.
func (e *Engine) load(ctx context.Context) error {
	if e.loaded {
		return nil
	}
	operations, err := Load[Operation](ctx, e.Operations)
	if err != nil {
		return err
	}
	entries, err := Load[offering.Entry](ctx, e.Offerings)
	if err != nil {
		return err
	}
	if len(operations) > 0 {
		log.FromContext(ctx).Info("Resuming running operations", "count", len(operations))
	}
	for _, op := range operations {
		e.keys[op.Key] = keyInfo{key: op.Of}
	}
	e.operations, e.shown, e.loaded = operations, entries, true
	e.memory.Restore(entries)
	e.Metrics.observeOfferings(entries)
	return nil
}

// Memory returns the offerings that are known to be unavailable.
func (e *Engine) Memory() *offering.Memory { return e.memory }

// Wake requests a pass.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Retry requests a pass that retries what failed because of the operator's configuration, identity or rights.
func (e *Engine) Retry() {
	e.retry.Store(true)
	e.Wake()
}

// Woken returns the channel of requests by Wake.
func (e *Engine) Woken() <-chan struct{} { return e.wake }

// Waiting returns what a claim waits for, as of the last pass.
func (e *Engine) Waiting(uid types.UID) (Wait, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	w, ok := e.waits[uid]
	return w, ok
}

// Release requests that the claim's machine is deleted, because Karpenter has drained the Node. It can be called
// repeatedly. Karpenter records the same on the claim (InstanceTerminating), so that a restarted process knows.
func (e *Engine) Release(uid types.UID) {
	e.mu.Lock()
	_, known := e.released[uid]
	if !known {
		e.released[uid] = e.Clock.Now()
	}
	e.mu.Unlock()
	if !known {
		e.Wake()
	}
}

// pass is the state of one pass, which its phases fill in.
type pass struct {
	view     azure.View
	claims   []Claim
	objects  map[string]*karpv1.NodeClaim // by name
	pace     pace
	decision Decision
}

// Pass reads the operations, the claims and the agent pools, decides what to do, and does it. It returns the time until
// the next pass at the latest.
func (e *Engine) Pass(ctx context.Context) (time.Duration, error) {
	p := &pass{}
	if err := e.load(ctx); err != nil {
		return 0, err
	}
	e.retryHolds()
	e.pollOperations(ctx)
	unread := e.readLocation(ctx)
	if err := e.observeClaims(ctx, p); err != nil {
		return 0, err
	}
	if unread == nil {
		unread = e.readPools(ctx, p)
	}
	if unread != nil {
		return e.postpone(ctx, p, unread), nil
	}
	e.dropHoldsOfGonePools(&p.view)
	if err := e.concludeOperations(ctx, p); err != nil {
		return 0, err
	}
	e.decide(ctx, p)
	err := errors.Join(e.act(ctx, p), e.reportUnmanaged(ctx, p))
	e.saveOfferings(ctx)
	e.Metrics.observe(p, e.operations, e.Clock.Now())
	return e.next(p), err
}

// decide calls Decide and keeps what the next pass needs of the decision.
func (e *Engine) decide(ctx context.Context, p *pass) {
	p.decision = Decide(State{
		Now: e.Clock.Now(), View: p.view, Claims: p.claims, Operations: maps.Clone(e.operations), Holds: maps.Clone(e.holds),
		Sightings: e.sightings, MaxPerPool: e.maxPerPool, Settings: e.Settings,
	})
	e.sightings = p.decision.Sightings
	e.publishDoubts(ctx, &p.view, p.decision.Doubts)
	e.forget(p.decision.Settled)
}

func (e *Engine) maxPerPool(key string) int {
	if info, ok := e.keys[key]; ok && info.max > 0 {
		return info.max
	}
	return e.MaxPerPool
}

// event records an event on a claim. The recorder aggregates repeated events.
func (e *Engine) event(claim *karpv1.NodeClaim, kind, reason, message string) {
	if claim != nil {
		events.Publish(e.Events, claim, kind, reason, message)
	}
}

const warning = corev1.EventTypeWarning
