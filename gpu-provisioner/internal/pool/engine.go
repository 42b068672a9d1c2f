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
	Look(ctx context.Context, h azure.Handle) (azure.Progress, error)
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
	e.Metrics.showOfferings(entries)
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

// Pass looks, decides and acts once. It returns when to come again at the latest.
func (e *Engine) Pass(ctx context.Context) (time.Duration, error) {
	if err := e.load(ctx); err != nil {
		return 0, err
	}
	e.forgive()
	e.lookAtOperations(ctx)
	var failed error
	view, _ := e.Cache.View()
	if view.At.IsZero() {
		// Where a claim may be placed depends on the cluster's location.
		failed = e.refresh(ctx, moving)
	}
	claims, objects, err := e.observeClaims(ctx)
	if err != nil {
		return 0, err
	}
	pace := e.pace(claims)
	if failed == nil {
		failed = e.refresh(ctx, pace)
	}
	if failed != nil {
		return e.refreshFailed(ctx, claims, failed)
	}
	view, _ = e.Cache.View()
	e.releaseGone(&view)
	if e.conclude(ctx, &view) {
		// What failed is remembered now, and claims ask for something else.
		if claims, objects, err = e.observeClaims(ctx); err != nil {
			return 0, err
		}
	}
	decision := Decide(State{
		Now: e.Clock.Now(), View: view, Claims: claims, Operations: maps.Clone(e.operations), Holds: maps.Clone(e.holds),
		Sightings: e.sightings, MaxPerPool: e.maxPerPool, Settings: e.Settings,
	})
	e.sightings = decision.Sightings
	e.publishDoubts(ctx, &view, decision.Doubts)
	e.forget(decision.Settled)
	err = e.act(ctx, decision, &view, objects)
	if view.Cluster.Writable() {
		err = errors.Join(err, e.tellUnmanaged(ctx, &view, claims, objects))
	}
	e.showOfferings(ctx)
	e.Metrics.observe(&view, claims, e.operations)
	e.Metrics.orphansAre(&view, claims, decision, e.Clock.Now())
	return e.next(decision, pace), err
}

// refresh renews the view when something asked for it or when it is too old for what is going on.
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
		// What is left of the rate limit is for writes.
		hold := Hold{Until: e.Clock.Now().Add(2 * time.Second), Err: azure.Throttled(2 * time.Second)}
		e.holds[holdRefresh] = hold
		return hold.Err
	}
	e.doubt(&view)
	// Machines of a pool that did not change are read at leisure, however busy other pools are.
	err := e.Cache.Refresh(ctx, e.interval(resting, &view))
	if err != nil {
		e.hold(holdRefresh, azure.Classify(err))
		return err
	}
	e.release(holdRefresh)
	return nil
}

const holdRefresh = "refresh"

// doubt has those pools looked into in which something was seen that should not be.
func (e *Engine) doubt(view *azure.View) {
	doubts := e.Doubts().pools
	for i := range view.Pools {
		p := &view.Pools[i]
		_, seen := e.sightings[sightCount(p.Name)]
		if _, doubted := doubts[p.Name]; doubted {
			seen = true
		}
		for _, m := range p.Machines {
			if seen {
				break
			}
			_, seen = e.sightings[sightMachine(m.ProviderID)]
			if _, surge := e.sightings[sightSurge(m.ProviderID)]; surge {
				seen = true
			}
		}
		if seen {
			e.Cache.Doubt(p.Name)
		}
	}
}

// refreshFailed tells every waiting claim why nothing goes on, and leaves everything alone.
func (e *Engine) refreshFailed(ctx context.Context, claims []Claim, err error) (time.Duration, error) {
	reason := azure.Classify(err)
	e.mu.Lock()
	for i := range claims {
		if claims[i].waiting() {
			e.waits[types.UID(claims[i].UID)] = Wait{Claim: claims[i].Name, Reason: reason.Reason, Message: reason.Explain()}
		}
	}
	e.mu.Unlock()
	if reason.Class == azure.ClassThrottle {
		// The limits, ours or Azure's, at work: nothing is wrong, and it may be so for minutes.
		log.FromContext(ctx).V(1).Info("Reading the cluster's agent pools later", "after", reason.RetryAfter.String())
	} else {
		log.FromContext(ctx).Error(err, "Reading the cluster's agent pools")
	}
	hold := e.holds[holdRefresh]
	return max(time.Second, hold.Until.Sub(e.Clock.Now())), nil
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
