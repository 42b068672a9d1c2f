// SPDX-License-Identifier: Apache-2.0

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
	// timeout is the maximum time for one model: three small requests.
	timeout = 30 * time.Second
	// workers is the number of models that are read at once: enough that a slow answer does not block others.
	workers = 4
	// firstRetry is the first interval of retries while the hub does not answer. It doubles up to lastRetry.
	firstRetry, lastRetry = 15 * time.Second, 10 * time.Minute
	// recheck is the interval of retries after an error that a user must fix on the hub, such as a missing licence.
	recheck = 10 * time.Minute
)

// Reader reads one model from the hub.
type Reader interface {
	Model(ctx context.Context, known *catalog.Catalog, ref catalog.Reference) (catalog.Model, error)
}

// Refusal is the reason for a missing model.
type Refusal struct {
	// Reason is a reason of the Workspace's conditions.
	Reason, Message string
	// Stalled is true if a user must act.
	Stalled bool
	// Retry is the time until the next call of Find; 0 if the Workspace is enqueued.
	Retry time.Duration
}

// Models caches descriptions of models.
type Models struct {
	catalog *catalog.Catalog
	reader  Reader
	clock   clock.PassiveClock
	queue   workqueue.TypedInterface[catalog.Reference]

	mu      sync.Mutex
	entries map[catalog.Reference]*entry
	notify  func(context.Context, types.NamespacedName)
}

type entry struct {
	model    *catalog.Model
	err      error
	failures int
	// again is the time of the next retry after a failure.
	again time.Time
	// asking is true while a worker reads the model, or will.
	asking bool
	askers map[types.NamespacedName]struct{}
}

// New returns Models. With a nil reader, the hub is not used.
func New(known *catalog.Catalog, reader Reader, clk clock.PassiveClock) *Models {
	return &Models{
		catalog: known, reader: reader, clock: clk,
		queue:   workqueue.NewTyped[catalog.Reference](),
		entries: map[catalog.Reference]*entry{}, notify: func(context.Context, types.NamespacedName) {},
	}
}

// OnResult sets the function that is called with each waiting object when a result arrives. It may block until the
// context ends. Call it before Start.
func (m *Models) OnResult(notify func(context.Context, types.NamespacedName)) { m.notify = notify }

// Find returns the model of a preset's name. It returns neither a model nor a refusal if the catalogue has the model,
// or if the name is not a repository (the planner reports the error). pinned is the commit of the previous plan, so
// that a new commit of the branch changes nothing.
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
			"preset.name is %q, which is not in the catalogue, and --model-hub is empty, so the hub is not used: set it, or describe the model in a file for --catalog",
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
		refusal := e.refusal(ref, m.clock.Now()) // the reason stays during the retry
		refusal.Retry = 0
		return nil, refusal
	}
	return nil, &Refusal{
		Reason: kaitov1alpha1.ReasonModelLookup,
		Message: fmt.Sprintf(
			"reading the description of %s from the model hub, because it is not in the catalogue", describe(ref),
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
		"the workspace-operator cannot plan %s, which is not in the catalogue: %v; next attempt at %s", describe(ref),
		e.err, e.again.UTC().Format(time.RFC3339),
	)
	return r
}

// Start reads the requested models until the context ends.
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
		Info("Reading a model that is not in the catalogue", "model", ref.Name, "revision", ref.Revision)
	model, err := m.reader.Model(bounded, m.catalog, ref)
	if ctx.Err() != nil {
		return // the process ends
	}
	for _, asker := range m.note(ref, model, err) {
		m.notify(ctx, asker)
	}
}

// note stores a result, and returns the objects that wait for it.
func (m *Models) note(ref catalog.Reference, model catalog.Model, err error) []types.NamespacedName {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[ref]
	e.asking = false
	if err == nil {
		e.model, e.err = &model, nil
		// The next call has the commit as revision.
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
