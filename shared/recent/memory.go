// SPDX-License-Identifier: Apache-2.0

package recent

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Horizon is how long a write is remembered that no watch has shown. A watch shows a write within milliseconds. After
// this time the cache is preferred: for instance, the object was deleted while the watch was broken, so that no event
// showed it. The writer should read again once after it.
const Horizon = time.Minute

// memory is what was written and no watch has shown yet.
type memory struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	written map[schema.GroupVersionKind]map[types.NamespacedName]entry
	// ended are objects that a watch has shown to be gone. The answer to the request that created one may come later.
	ended map[types.UID]time.Time
	// writers are the keys of what each has written.
	writers map[types.NamespacedName]map[key]struct{}
	// drops counts what was forgotten of each kind: who reads the cache before and the memory after that would miss the
	// write in both.
	drops map[schema.GroupVersionKind]int
	swept time.Time
}

type key struct {
	gvk  schema.GroupVersionKind
	name types.NamespacedName
}

type entry struct {
	object  client.Object // nil: only the deletion is known
	deleted types.UID     // the UID that was asked to go
	gone    bool          // it has gone: the last finalizer was taken from it
	// knowing: the writer knew all of the object. Otherwise the object may also have what another client wrote just
	// before.
	knowing bool
	writer  types.NamespacedName
	at      time.Time
}

func newMemory(clk clock.PassiveClock) *memory {
	return &memory{
		clock:   clk,
		written: map[schema.GroupVersionKind]map[types.NamespacedName]entry{},
		ended:   map[types.UID]time.Time{},
		writers: map[types.NamespacedName]map[key]struct{}{},
		drops:   map[schema.GroupVersionKind]int{},
	}
}

// look returns a write that is young enough.
func (m *memory) look(k key) (entry, bool) {
	e, ok := m.written[k.gvk][k.name]
	if ok && m.clock.Since(e.at) > Horizon {
		m.drop(k)
		return entry{}, false
	}
	return e, ok
}

func (m *memory) has(k key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.look(k)
	return ok
}

func (m *memory) dropsOf(gvk schema.GroupVersionKind) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drops[gvk]
}

func (m *memory) drop(k key) {
	if e, ok := m.written[k.gvk][k.name]; ok {
		m.drops[k.gvk]++
		delete(m.writers[e.writer], k)
		if len(m.writers[e.writer]) == 0 {
			delete(m.writers, e.writer)
		}
		delete(m.written[k.gvk], k.name)
	}
}

// keep remembers a write, unless a watch has already shown that its object is gone.
func (m *memory) keep(ctx context.Context, k key, uid types.UID, e entry) {
	e.writer = writerOf(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	if _, gone := m.ended[uid]; gone && uid != "" {
		return
	}
	m.drop(k)
	e.at = m.clock.Now()
	if m.writers[e.writer] == nil {
		m.writers[e.writer] = map[key]struct{}{}
	}
	m.writers[e.writer][k] = struct{}{}
	if m.written[k.gvk] == nil {
		m.written[k.gvk] = map[types.NamespacedName]entry{}
	}
	m.written[k.gvk][k.name] = e
}

// sweep keeps the memory from growing by objects that are written and never read again.
func (m *memory) sweep() {
	now := m.clock.Now()
	if now.Sub(m.swept) < Horizon {
		return
	}
	m.swept = now
	for gvk, names := range m.written {
		for name, e := range names {
			if now.Sub(e.at) > Horizon {
				m.drop(key{gvk: gvk, name: name})
			}
		}
	}
	for uid, at := range m.ended {
		if now.Sub(at) > Horizon {
			delete(m.ended, uid)
		}
	}
}

// Shown records an object that a watch has shown. It returns whether the object is exactly what a pass wrote and knew,
// so that the event has no news for that pass. What the watch has caught up with is forgotten.
func (c *Client) Shown(obj client.Object) (nothingNew bool) {
	k, ok := c.key(obj)
	if !ok {
		return false
	}
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.look(k)
	switch {
	case !ok:
		return false
	case e.object == nil:
		if e.deleted == obj.GetUID() && obj.GetDeletionTimestamp() != nil && !e.gone {
			m.drop(k)
		}
		return false
	case newer(e.object, obj):
		return e.knowing && e.object.GetUID() == obj.GetUID() // an older state, on its way while the pass that knew it wrote
	}
	m.drop(k)
	return e.knowing && e.object.GetUID() == obj.GetUID() && e.object.GetResourceVersion() == obj.GetResourceVersion()
}

// Forget drops what was written to an object that a watch has shown to be gone.
func (c *Client) Forget(obj client.Object) {
	k, ok := c.key(obj)
	if !ok {
		return
	}
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	m.ended[obj.GetUID()] = m.clock.Now()
	if e, ok := m.look(k); ok && e.object != nil && e.object.GetUID() != obj.GetUID() {
		return // the write made another object of the name
	}
	m.drop(k)
}

// ForgetKind drops what was written to objects of a kind, when it is no longer watched: no watch will show that they
// are gone.
func (c *Client) ForgetKind(of client.Object) {
	k, ok := c.key(of)
	if !ok {
		return
	}
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	for name := range c.memory.written[k.gvk] {
		c.memory.drop(key{gvk: k.gvk, name: name})
	}
}

type writerKey struct{}

// By says who writes with the context.
func By(ctx context.Context, writer types.NamespacedName) context.Context {
	return context.WithValue(ctx, writerKey{}, writer)
}

func writerOf(ctx context.Context) types.NamespacedName {
	writer, _ := ctx.Value(writerKey{}).(types.NamespacedName)
	return writer
}

// Unshown is how long something that the writer has written is still believed against the caches; 0: nothing is. A
// watch brings all of it back before, unless what was written has gone again while the watch was broken, which no event
// tells.
func (c *Client) Unshown(writer types.NamespacedName) time.Duration {
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	var longest time.Duration
	for k := range m.writers[writer] {
		if e, ok := m.look(k); ok {
			longest = max(longest, Horizon-m.clock.Since(e.at)+time.Millisecond)
		}
	}
	return longest
}

// mark shows an object that was asked to go as being deleted.
func mark(obj client.Object, e entry) {
	if e.deleted != "" && obj.GetUID() == e.deleted && obj.GetDeletionTimestamp() == nil {
		at := metav1.NewTime(e.at)
		obj.SetDeletionTimestamp(&at)
	}
}
