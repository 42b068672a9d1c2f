// SPDX-License-Identifier: Apache-2.0

// Package workspace reconciles Workspaces. Observing reads caches only, deciding is pure, and writing is what differs.
package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	clientgoevents "k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/events"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/recent"
)

// Workspaces are what it is all about; past the cache one is read before a machine is deleted that is said to be its.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces,verbs=get;list;watch
// The finalizer keeps a Workspace until its nodes are released.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces,verbs=patch
// The status is the product.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces/status,verbs=patch
// Owner references with blockOwnerDeletion need this where OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces/finalizers,verbs=update
// What fails is told in events, too.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Foreign says which kinds of other operators are served.
type Foreign interface {
	Served(ctx context.Context, obj client.Object) (bool, error)
}

// Secrets says whether a Secret is there. known is false when that can't be found out.
type Secrets interface {
	Exists(ctx context.Context, key client.ObjectKey) (exists, known bool, err error)
}

// Reconciler reconciles Workspaces.
type Reconciler struct {
	client  client.Client
	live    client.Reader
	foreign Foreign
	secrets Secrets
	planner Planner
	models  Models
	events  clientgoevents.EventRecorder
	clock   clock.PassiveClock
	metrics *Metrics
	options Options
	unshown func(types.NamespacedName) time.Duration

	machines   placement.API
	nodeClaims placement.API

	plans        memo
	configs      *configTexts
	reservations reservations
	drift        drift
	holds        *holds
	room         *room
}

// Config is what a Reconciler is made of.
type Config struct {
	// Client reads caches and writes; it is wrapped so that a pass sees what the one before it has written.
	Client client.Client
	// Live reads the API server itself: only before something irrevocable.
	Live    client.Reader
	Foreign Foreign
	Secrets Secrets
	Planner Planner
	// Models are asked about what the catalogue does not have; nil: nobody is.
	Models  Models
	Events  clientgoevents.EventRecorder
	Clock   clock.PassiveClock
	Metrics *Metrics
	Options Options
	// Unshown is how long the client believes against the caches something that was written for a Workspace; nil: it never
	// does.
	Unshown func(types.NamespacedName) time.Duration

	room *room
}

// New makes a Reconciler. The error is a wrong option.
func New(c Config) (*Reconciler, error) {
	if err := c.Options.Validate(); err != nil {
		return nil, err
	}
	class, err := c.Options.class()
	if err != nil {
		return nil, err
	}
	if c.Unshown == nil {
		c.Unshown = func(types.NamespacedName) time.Duration { return 0 }
	}
	if c.room == nil {
		c.room = newRoom()
	}
	return &Reconciler{
		room:         c.room,
		client:       c.Client,
		unshown:      c.Unshown,
		live:         c.Live,
		foreign:      c.Foreign,
		secrets:      c.Secrets,
		planner:      c.Planner,
		models:       c.Models,
		events:       c.Events,
		clock:        c.Clock,
		metrics:      c.Metrics,
		options:      c.Options,
		machines:     placement.Machines{},
		nodeClaims:   placement.NodeClaims{Class: class},
		configs:      newConfigTexts(c.Client, c.Live),
		plans:        memo{kept: map[types.UID]memoized{}},
		reservations: reservations{taken: map[string]types.UID{}},
		drift:        drift{tolerated: map[types.UID]map[types.UID]string{}},
		holds:        &holds{clock: c.Clock, limit: c.Options.StatusHold, held: map[types.UID]held{}},
	}, nil
}

// steps are what a Workspace goes through. Each reads what the ones before it have put into the scope.
func (r *Reconciler) steps() []flow.Step[*scope] {
	return []flow.Step[*scope]{
		{Name: "adding the finalizer", Run: r.addFinalizer},
		{Name: "reading what is there", Run: r.observe},
		{Name: "reading the TuningJob", Run: r.readJob},
		{Name: "judging what has failed", Run: r.judge},
		{Name: "reading its configuration", Run: r.readConfig},
		{Name: "reading the budgets", Run: r.readBudgets},
		{Name: "planning", Run: r.makePlan},
		{Name: "looking for its secrets", Run: r.findSecrets},
		{Name: "getting nodes", Run: r.place},
		{Name: "tuning", Run: r.tune},
		{Name: "serving", Run: r.serve},
	}
}

// Reconcile brings one Workspace a step further. It never waits: watches bring it back.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if request == theKinds {
		return reconcile.Result{}, r.watchKinds(ctx)
	}
	if isCount(request) {
		return reconcile.Result{}, r.count(recent.By(ctx, request.NamespacedName), request.Namespace)
	}
	result, err := r.pass(recent.By(ctx, request.NamespacedName), request)
	// Once more when what was written is no longer believed against the caches: a watch shows it before, unless it was
	// broken.
	if err == nil {
		result.RequeueAfter = soonest(result.RequeueAfter, r.unshown(request.NamespacedName))
	}
	return result, err
}

func (r *Reconciler) pass(ctx context.Context, request reconcile.Request) (result reconcile.Result, err error) {
	w := &kaitov1alpha1.Workspace{}
	if err := r.client.Get(ctx, request.NamespacedName, w); err != nil {
		if apierrors.IsNotFound(err) {
			r.forgetRoom(ctx, request.NamespacedName)
			return reconcile.Result{}, r.collect(ctx, request.NamespacedName)
		}
		return reconcile.Result{}, err
	}
	before := w.DeepCopy()
	s := &scope{
		workspace: w, before: before, stored: before.Status, now: r.clock.Now(),
	}
	if w.DeletionTimestamp != nil {
		return flow.Run(ctx, s, flow.Step[*scope]{Name: "releasing", Run: r.release})
	}
	if r.holds.resume(w) {
		s.before = w.DeepCopy()
	}
	defer func() {
		var wait time.Duration
		wait, err = r.finish(ctx, s, err)
		if err == nil {
			r.noteWaiting(ctx, s)
		}
		if wait > 0 {
			if result.RequeueAfter == 0 || wait < result.RequeueAfter {
				result.RequeueAfter, result.Priority = wait, ptr.To(ofHeld)
			}
		}
	}()
	return flow.Run(ctx, s, r.steps()...)
}

// theKinds is the request that is no Workspace's: other operators' kinds came or went.
var theKinds = reconcile.Request{}

// watchKinds has every foreign kind that is served watched: its objects then ask for the Workspaces that they name.
func (r *Reconciler) watchKinds(ctx context.Context) error {
	kinds := []client.Object{&tuningv1alpha1.TuningJob{}, poolMetadata(), &kaitov1alpha1.GPUBudget{}}
	for _, api := range r.claimAPIs() {
		kinds = append(kinds, api.Object())
	}
	for _, kind := range kinds {
		if _, err := r.foreign.Served(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the status once, when it has changed, whatever the pass has come to; or says how long it is kept back.
// A conflict asks for nothing but another pass.
func (r *Reconciler) finish(ctx context.Context, s *scope, failed error) (time.Duration, error) {
	if s.workspace.UID == "" || apierrors.IsConflict(failed) {
		return 0, failed
	}
	s.summarize(failed)
	s.roundTimes()
	if equality.Semantic.DeepEqual(s.stored, s.workspace.Status) {
		r.holds.forget(s.workspace.UID)
		return 0, failed // the usual case, and cheaper to find than by rendering both
	}
	if wait := r.holds.hold(s, failed); wait > 0 {
		return wait, nil
	}
	if err := writeStatus(ctx, r.client, s.before, s.workspace); err != nil {
		return 0, errors.Join(failed, err)
	}
	r.tell(s)
	r.metrics.observe(s.stored, s.workspace)
	return 0, failed
}

// writeStatus writes the status, and fails with a conflict when somebody has written since before was read.
func writeStatus(ctx context.Context, c client.Client, before, w *kaitov1alpha1.Workspace) error {
	change, err := recent.Locked(before.ResourceVersion, "/status", w.Status)
	if err == nil {
		err = c.Status().Patch(ctx, w, change)
	}
	if err != nil {
		return fmt.Errorf("writing the status of Workspace %s: %w", client.ObjectKeyFromObject(w), err)
	}
	return nil
}

// roundTimes makes the times of conditions what the API server will have of them, so that what is remembered of a write
// is what is read back.
func (s *scope) roundTimes() {
	for i := range s.workspace.Status.Conditions {
		at := &s.workspace.Status.Conditions[i].LastTransitionTime
		*at = at.Rfc3339Copy()
	}
}

// addFinalizer is the first write, before anything is created that it must release.
func (r *Reconciler) addFinalizer(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	if controllerutil.ContainsFinalizer(w, kaitov1alpha1.Finalizer) {
		return flow.Continue(), nil
	}
	change, err := recent.Locked(
		w.ResourceVersion, "/metadata/finalizers", append(slices.Clone(w.Finalizers), kaitov1alpha1.Finalizer),
	)
	if err != nil {
		return flow.Stop(), err
	}
	if err := r.client.Patch(ctx, w, change); err != nil {
		return flow.Stop(), fmt.Errorf("writing the finalizers of Workspace %s: %w", client.ObjectKeyFromObject(w), err)
	}
	controllerutil.AddFinalizer(w, kaitov1alpha1.Finalizer) // the answer may be the metadata, or all of it
	s.before = w.DeepCopy()
	return flow.Continue(), nil
}

// tell publishes the changes of this pass as events, after the status is written, so that each is published once.
func (r *Reconciler) tell(s *scope) {
	for _, c := range s.changes {
		kind := corev1.EventTypeNormal
		if c.warning {
			kind = corev1.EventTypeWarning
		}
		events.Publish(r.events, s.workspace, kind, c.reason, c.message)
	}
}

// memo keeps the last plan of each Workspace: planning looks through the whole catalogue, and most passes change none
// of its inputs.
type memo struct {
	mu   sync.Mutex
	kept map[types.UID]memoized
}

type memoized struct {
	key  string
	plan *Plan
	err  error
}

func (m *memo) get(uid types.UID, key string, make func() (*Plan, error)) (*Plan, error) {
	m.mu.Lock()
	had, ok := m.kept[uid]
	m.mu.Unlock()
	if ok && had.key == key {
		return had.plan, had.err
	}
	plan, err := make()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[uid] = memoized{key: key, plan: plan, err: err}
	return plan, err
}

func (m *memo) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, uid)
}

// reservations keep two Workspaces that are reconciled at the same time from choosing the same node. What has been
// chosen is in the Workspaces' status; this bridges the time until the caches show it.
type reservations struct {
	mu    sync.Mutex
	taken map[string]types.UID
}

// take reserves a node unless another Workspace has it.
func (r *reservations) take(name string, uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner, ok := r.taken[name]; ok && owner != uid {
		return false
	}
	r.taken[name] = uid
	return true
}

// keep drops all of a Workspace's reservations but those of the names.
func (r *reservations) keep(uid types.UID, names map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, owner := range r.taken {
		if owner == uid && !names[name] {
			delete(r.taken, name)
		}
	}
}

var _ reconcile.Reconciler = &Reconciler{}

// soonest is the smaller of two deadlines, where 0 is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
