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

// Azure is what the engine writes with; *azure.ARM is one.
type Azure interface {
	azure.Reader
	CreatePool(ctx context.Context, name string, spec azure.Spec) (azure.Handle, error)
	ResizePool(ctx context.Context, pool *azure.Pool, count int) (azure.Handle, error)
	DeletePool(ctx context.Context, pool *azure.Pool) (azure.Handle, error)
	DeleteMachines(ctx context.Context, pool string, names []string) (azure.Handle, error)
	Abort(ctx context.Context, pool string) (azure.Handle, error)
	Poll(ctx context.Context, h azure.Handle) (azure.Progress, error)
}

// Size is what the engine needs to know of a VM size.
type Size struct {
	VCPUs  int64
	Family string // quota family
}

// Intervals are how often ARM is read, by need.
type Intervals struct {
	// Active is the age at which the view is renewed while something is going on.
	Active time.Duration
	// Idle is the age at which it is renewed while nothing is.
	Idle time.Duration
}

// EngineConfig is what an Engine needs.
type EngineConfig struct {
	Client     client.Client // cached reads
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
	// MaxPerPool is the flag; a node class may lower or raise it for its own pools.
	MaxPerPool int
	// Manages says whether a claim is of a node class of ours.
	Manages func(*karpv1.NodeClaim) bool
	// ClassOf reads a claim's node class; an error is a reason why the claim is not launched.
	ClassOf func(context.Context, *karpv1.NodeClaim) (Class, error)
	// SizeOf knows VM sizes; false for one that is not in the catalogue.
	SizeOf func(string) (Size, bool)
}

// Engine keeps the pools in step with the claims. One Pass looks at everything, decides and acts; nothing in it waits.
// Only one Pass runs at a time; the other methods may be called from anywhere.
type Engine struct {
	EngineConfig
	memory *offering.Memory
	wake   chan struct{}

	// Of the pass alone.
	loaded     bool
	operations map[string]Operation
	unsaved    bool // operations are not saved as they are now
	holds      map[string]Hold
	failures   map[string]int // failed writes in a row, by the hold's subject
	sightings  map[string]Sighting
	assigned   map[types.UID]assignment
	seen       map[types.UID]time.Time
	keys       map[string]keyInfo // by hash
	shown      map[string]offering.Entry
	doubtedAt  map[string]time.Time // by pool: since when it is in doubt

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

// NewEngine returns an engine that has not looked at anything yet.
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

// load takes up the operations and the failed offerings that an earlier process left. It runs with the first pass and
// not at the start, when another replica may still be leading.
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
		log.FromContext(ctx).Info("Taking up running operations", "count", len(operations))
	}
	for _, op := range operations {
		e.keys[op.Key] = keyInfo{key: op.Of}
	}
	e.operations, e.shown, e.loaded = operations, entries, true
	e.memory.Restore(entries)
	e.Metrics.observeOfferings(entries)
	return nil
}

// Memory is what is known to be unavailable.
func (e *Engine) Memory() *offering.Memory { return e.memory }

// Wake asks for a pass soon.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Retry asks for a pass soon that tries again what waited for a person: the identity, or its rights, have been mended.
func (e *Engine) Retry() {
	e.retry.Store(true)
	e.Wake()
}

// Woken delivers Wake's requests.
func (e *Engine) Woken() <-chan struct{} { return e.wake }

// Waiting says what a claim waits for, by the last pass.
func (e *Engine) Waiting(uid types.UID) (Wait, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	w, ok := e.waits[uid]
	return w, ok
}

// Release asks for the claim's machine to be deleted: core has drained the node. It may be called again and again. Core
// notes it on the claim (InstanceTerminating), so that a restarted process knows.
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

// pass is the state of one pass.
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

// event tells a claim's readers; the recorder aggregates repeats.
func (e *Engine) event(claim *karpv1.NodeClaim, kind, reason, message string) {
	if claim != nil {
		events.Publish(e.Events, claim, kind, reason, message)
	}
}

const warning = corev1.EventTypeWarning
