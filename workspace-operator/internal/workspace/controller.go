// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/recent"
	"kaito.sh/shared/statushold"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/gpubudget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/watch"
)

// Config is what a Reconciler needs.
type Config struct {
	// Client reads caches and writes; a pass sees what the pass before it has written.
	Client client.Client
	// Live reads the API server itself. It is used only before something that cannot be undone.
	Live client.Reader
	// Kinds tells which kinds of other operators the cluster serves.
	Kinds   placement.Kinds
	Secrets Secrets
	Catalog *catalog.Catalog
	Engine  engine.Engine
	// Models knows models that the catalogue does not have. Optional.
	Models  Models
	Events  events.EventRecorder
	Clock   clock.PassiveClock
	Metrics *Metrics
	Options Options
	// Unconfirmed returns for how long the client still prefers its own writes for a Workspace to the caches. Optional.
	Unconfirmed func(types.NamespacedName) time.Duration
	// Room is what the process remembers about GPUBudgets. Optional.
	Room *gpubudget.Room
}

// Reconciler reconciles Workspaces.
type Reconciler struct {
	client      client.Client
	clock       clock.PassiveClock
	unconfirmed func(types.NamespacedName) time.Duration
	holds       *statushold.Holds[*kaitov1alpha1.WorkspaceStatus]
	room        *gpubudget.Room

	observer   observer
	configurer configurer
	stager     stager
	models     modelFinder
	planner    planner
	secrets    secretChecker
	placer     placer
	tuner      tuner
	server     server
	releaser   releaser
	orphans    orphanCollector
	status     statusWriter
}

// steps are what a Workspace goes through. Each step reads what the steps before it have put into the scope.
func (r *Reconciler) steps() []flow.Step[*scope] {
	return []flow.Step[*scope]{
		{Name: "adding the finalizer", Run: r.addFinalizer},
		{Name: "observing", Run: r.observer.observe},
		{Name: "judging failures", Run: judge},
		{Name: "reading the configuration", Run: r.configurer.configure},
		{Name: "choosing the stage", Run: r.stager.decide},
		{Name: "looking up models", Run: r.models.find},
		{Name: "planning", Run: r.planner.plan},
		{Name: "checking secrets", Run: r.secrets.check},
		{Name: "placing", Run: r.placer.place},
		{Name: "tuning", Run: r.tuner.tune},
		{Name: "serving", Run: r.server.serve},
	}
}

// Reconcile brings one Workspace a step further. It never waits: watches enqueue the Workspace again.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	result, err := flow.RequeueConflict(r.pass(recent.By(ctx, request.NamespacedName), request))
	if err == nil {
		// After a broken watch no event shows what was written: reconcile again when the caches are preferred to it.
		result.RequeueAfter = soonest(result.RequeueAfter, r.unconfirmed(request.NamespacedName))
	}
	return result, err
}

func (r *Reconciler) pass(ctx context.Context, request reconcile.Request) (result reconcile.Result, err error) {
	w := &kaitov1alpha1.Workspace{}
	if err := r.client.Get(ctx, request.NamespacedName, w); apierrors.IsNotFound(err) {
		r.room.Forget(request.NamespacedName)
		return reconcile.Result{}, r.orphans.collect(ctx, request.NamespacedName)
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading Workspace %s: %w", request.NamespacedName, err)
	}
	s := &scope{workspace: w, before: w.DeepCopy(), stored: *w.Status.DeepCopy(), now: r.clock.Now()}
	if w.DeletionTimestamp != nil {
		return flow.Run(ctx, s, flow.Step[*scope]{Name: "releasing", Run: r.releaser.release})
	}
	if held, ok := r.holds.Get(w.UID); ok {
		held.DeepCopyInto(&w.Status)
		s.before = w.DeepCopy()
	}
	defer func() { result, err = r.finish(ctx, s, result, err) }()
	return flow.Run(ctx, s, r.steps()...)
}

// finish writes the status at the end of every pass.
func (r *Reconciler) finish(
	ctx context.Context, s *scope, result reconcile.Result, failed error,
) (reconcile.Result, error) {
	wait, err := r.status.finish(ctx, s, failed)
	if err != nil {
		return result, err
	}
	over := overBudget(s)
	r.room.Done(s.key(), len(s.budgets) > 0 && over, over != wasOverBudget(s))
	if wait > 0 && (result.RequeueAfter == 0 || wait < result.RequeueAfter) {
		result.RequeueAfter, result.Priority = wait, ptr.To(watch.PriorityHeld)
	}
	return result, nil
}

// overBudget returns whether a budget keeps the Workspace from its nodes.
func overBudget(s *scope) bool {
	over := func(o *outcome) bool { return o != nil && o.reason == kaitov1alpha1.ReasonBudgetExceeded }
	return over(s.blocked) || over(s.refused)
}

// addFinalizer is the first write, before anything is created that the finalizer must release.
func (r *Reconciler) addFinalizer(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	if controllerutil.ContainsFinalizer(w, kaitov1alpha1.Finalizer) {
		return flow.Continue(), nil
	}
	finalizers := append(slices.Clone(w.Finalizers), kaitov1alpha1.Finalizer)
	change, err := recent.Locked(w.ResourceVersion, "/metadata/finalizers", finalizers)
	if err != nil {
		return flow.Stop(), err
	}
	if err := r.client.Patch(ctx, w, change); err != nil {
		return flow.Stop(), fmt.Errorf("writing the finalizers of Workspace %s: %w", s.key(), err)
	}
	controllerutil.AddFinalizer(w, kaitov1alpha1.Finalizer) // the answer may have only the metadata
	s.before = w.DeepCopy()
	return flow.Continue(), nil
}

var _ reconcile.Reconciler = &Reconciler{}
