// SPDX-License-Identifier: Apache-2.0

// Package lookup reads, beside the reconciler, what is published about models that the catalogue does not have. The
// reconciler asks from memory and never waits: an answer that is not there yet is being fetched, and who asked is told
// when it is.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/catalog/hub"
)

const (
	// timeout of one model: three small requests.
	timeout = 30 * time.Second
	// workers at once: a hub that hangs keeps nobody else waiting for long, and is not stormed.
	workers = 4
	// firstRetry doubles up to lastRetry while the hub does not answer.
	firstRetry, lastRetry = 15 * time.Second, 10 * time.Minute
	// recheck is how often what a person must mend on the hub's side is looked at again: a licence is accepted, a
	// repository published.
	recheck = 10 * time.Minute
)

// Reader reads one model, and may take its time.
type Reader interface {
	Model(ctx context.Context, known *catalog.Catalog, ref catalog.Reference) (catalog.Model, error)
}

// Refusal is why there is no model.
type Refusal struct {
	// Reason is one of the Workspace's.
	Reason, Message string
	// Stalled: a person must act.
	Stalled bool
	// Retry is when to ask again; 0: Changed tells.
	Retry time.Duration
}

// Models answers from memory.
type Models struct {
	catalog *catalog.Catalog
	reader  Reader
	clock   clock.PassiveClock
	queue   workqueue.TypedInterface[catalog.Reference]

	mu      sync.Mutex
	entries map[catalog.Reference]*entry
	tell    func(context.Context, types.NamespacedName)
}

type entry struct {
	model    *catalog.Model
	err      error
	failures int
	// again is when a failure may be asked for again.
	again time.Time
	// asking: a worker has it, or will.
	asking bool
	askers map[types.NamespacedName]struct{}
}

// New makes it. A nil reader is a hub that must not be asked.
func New(known *catalog.Catalog, reader Reader, clk clock.PassiveClock) *Models {
	return &Models{
		catalog: known, reader: reader, clock: clk,
		queue:   workqueue.NewTyped[catalog.Reference](),
		entries: map[catalog.Reference]*entry{}, tell: func(context.Context, types.NamespacedName) {},
	}
}

// Tell names who is told that an asker's answer is there; it may wait until the context ends. It is set before Start.
func (m *Models) Tell(tell func(context.Context, types.NamespacedName)) { m.tell = tell }

// Find gives the model of a preset's name; nil and no refusal where the catalogue has it, or the name is none of a
// repository, so that the planner says what is wrong with it. pinned is the commit that was planned with before: a
// branch that has moved on since changes nothing.
func (m *Models) Find(asker types.NamespacedName, name, pinned string) (*catalog.Model, *Refusal) {
	var unknown *catalog.UnknownModelError
	if _, err := m.catalog.Model(name); !errors.As(err, &unknown) {
		return nil, nil
	}
	ref, err := catalog.ParseReference(name)
	if err != nil || !ref.IsRepository() {
		return nil, nil
	}
	if m.reader == nil {
		return nil, &Refusal{Reason: kaitov1alpha1.ReasonModelUnreachable, Stalled: true, Message: fmt.Sprintf(
			"preset.name is %q, which the catalogue does not have, and --model-hub is empty, so that no hub is asked: set it, or describe the model in a file for --catalog",
			name,
		)}
	}
	if pinned != "" {
		ref.Revision = pinned
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[ref]
	if e == nil {
		e = &entry{askers: map[types.NamespacedName]struct{}{}}
		m.entries[ref] = e
	}
	switch now := m.clock.Now(); {
	case e.model != nil:
		return e.model, nil
	case e.err != nil && now.Before(e.again):
		return nil, e.refusal(ref, now)
	}
	e.askers[asker] = struct{}{}
	if !e.asking {
		e.asking = true
		m.queue.Add(ref)
	}
	if e.err != nil {
		refusal := e.refusal(ref, m.clock.Now()) // it stays the reason while it is looked at again
		refusal.Retry = 0
		return nil, refusal
	}
	return nil, &Refusal{
		Reason: kaitov1alpha1.ReasonModelLookup,
		Message: fmt.Sprintf(
			"reading what the model hub publishes about %s, which the catalogue does not have", describe(ref),
		),
	}
}

func describe(ref catalog.Reference) string {
	if ref.Revision == "" {
		return ref.Name
	}
	return ref.Name + "@" + ref.Revision
}

func (e *entry) refusal(ref catalog.Reference, now time.Time) *Refusal {
	r := &Refusal{Reason: kaitov1alpha1.ReasonModelUnusable, Stalled: true, Retry: max(e.again.Sub(now), time.Second)}
	var failed *hub.Error
	if errors.As(e.err, &failed) {
		switch failed.Reason {
		case hub.NotFound:
			r.Reason = kaitov1alpha1.ReasonModelNotFound
		case hub.Denied:
			r.Reason = kaitov1alpha1.ReasonModelAccessDenied
		case hub.Unreachable:
			r.Reason, r.Stalled = kaitov1alpha1.ReasonModelUnreachable, false
		}
	}
	r.Message = fmt.Sprintf(
		"the workspace-operator can't plan %s, which the catalogue does not have: %v; tried again at %s", describe(ref),
		e.err, e.again.UTC().Format(time.RFC3339),
	)
	return r
}

// Start reads what is asked for until the context ends.
func (m *Models) Start(ctx context.Context) error {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				ref, end := m.queue.Get()
				if end {
					return
				}
				m.read(ctx, ref)
				m.queue.Done(ref)
			}
		})
	}
	<-ctx.Done()
	m.queue.ShutDown()
	running.Wait()
	return nil
}

func (m *Models) read(ctx context.Context, ref catalog.Reference) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	log.FromContext(ctx).
		Info("Reading a model that the catalogue does not have", "model", ref.Name, "revision", ref.Revision)
	model, err := m.reader.Model(bounded, m.catalog, ref)
	if ctx.Err() != nil {
		return // the process ends
	}
	for _, asker := range m.note(ref, model, err) {
		m.tell(ctx, asker)
	}
}

// note keeps an answer, and gives back who waits for it.
func (m *Models) note(ref catalog.Reference, model catalog.Model, err error) []types.NamespacedName {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[ref]
	e.asking = false
	if err == nil {
		e.model, e.err = &model, nil
		// The commit is what the next question names.
		pinned := catalog.Reference{Name: ref.Name, Revision: model.Revision}
		if m.entries[pinned] == nil {
			m.entries[pinned] = &entry{model: &model, askers: map[types.NamespacedName]struct{}{}}
		}
	} else {
		e.failures++
		e.err, e.again = err, m.clock.Now().Add(wait(err, e.failures))
	}
	var askers []types.NamespacedName
	for asker := range e.askers {
		askers = append(askers, asker)
	}
	clear(e.askers)
	return askers
}

func wait(err error, failures int) time.Duration {
	var failed *hub.Error
	if !errors.As(err, &failed) || !failed.Retryable() {
		return recheck
	}
	return min(firstRetry<<min(failures-1, 10), lastRetry)
}
