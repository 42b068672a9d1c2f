// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/scrape"
)

// TuningJobs and their status.
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs,verbs=list;watch
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs/status,verbs=patch
// Owner references with blockOwnerDeletion need this where OwnerReferencesPermissionEnforcement is enabled.
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs/finalizers,verbs=update
// The Job of each TuningJob. It is suspended and resumed by a patch.
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// The pods of the Job, for their status.
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch
// The training configuration. Contents are read by name; only metadata is watched.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch
// The headless Service that the ranks of several nodes find each other by.
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch
// The NetworkPolicy that closes the ports of the ranks.
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=get;create;patch
// The volume claim for checkpoints. It is deleted after success.
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;create;patch;delete
// Whether the cluster has a default storage class for that volume claim.
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=list
// Events about TuningJobs.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Config holds the dependencies of a Reconciler.
type Config struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server what is not cached.
	Live    client.Reader
	Catalog *catalog.Catalog
	Events  events.EventRecorder
	Clock   clock.WithTicker
	Metrics *Metrics
	Options Options
}

// Reconciler reconciles TuningJobs.
type Reconciler struct {
	client   client.Client
	live     client.Reader
	catalog  *catalog.Catalog
	events   events.EventRecorder
	clock    clock.WithTicker
	metrics  *Metrics
	options  Options
	scraper  *scrape.Scraper
	progress progressEvents
	departed departed
}

// New returns a Reconciler. The error names an invalid option.
func New(c Config) (*Reconciler, error) {
	if err := c.Options.Validate(); err != nil {
		return nil, err
	}
	progress := newProgressEvents()
	return &Reconciler{
		client:   c.Client,
		live:     c.Live,
		catalog:  c.Catalog,
		events:   c.Events,
		clock:    c.Clock,
		metrics:  c.Metrics,
		options:  c.Options,
		scraper:  scrape.New(c.Clock, c.Options.ProgressInterval, progress.send),
		progress: progress,
		departed: departed{pods: map[types.NamespacedName][]corev1.Pod{}},
	}, nil
}

// Reconcile brings one TuningJob a step further. It never waits: a watch or a deadline starts the next pass.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	tj := &tuningv1alpha1.TuningJob{}
	err = r.client.Get(ctx, req.NamespacedName, tj)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	if err != nil || !tj.DeletionTimestamp.IsZero() { // garbage collection deletes the children
		r.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	s := &scope{tj: tj, before: tj.DeepCopy(), key: req.NamespacedName}
	defer func() { result, err = flow.RequeueConflict(result, r.report(ctx, s, err)) }()
	if err := r.findJob(ctx, s); err != nil {
		return ctrl.Result{}, fmt.Errorf("finding the Job: %w", err)
	}
	return flow.Run(ctx, s, r.steps(s)...)
}

// steps returns the steps of a pass: create, then follow.
func (r *Reconciler) steps(s *scope) []flow.Step[*scope] {
	switch {
	case finished(s.tj):
		return []flow.Step[*scope]{{Name: "cleaning up", Run: r.cleanUp}}
	case s.job == nil:
		return append(r.create(), r.follow()...)
	}
	return r.follow()
}

// create lists the steps that lead to a Job.
func (r *Reconciler) create() []flow.Step[*scope] {
	return []flow.Step[*scope]{
		{Name: "resolving the model", Run: r.resolveModel},
		{Name: "reading the configuration", Run: r.readConfig},
		{Name: "checking spec.suspend", Run: r.holdSuspended},
		{Name: "choosing the checkpoint volume", Run: r.chooseCheckpoint},
		{Name: "rendering the objects", Run: r.render},
		{Name: "applying the objects that the Job needs", Run: r.applyChildren},
		{Name: "creating the Job", Run: r.createJob},
	}
}

// follow lists the steps for a TuningJob that has a Job.
func (r *Reconciler) follow() []flow.Step[*scope] {
	return []flow.Step[*scope]{
		{Name: "steering the Job", Run: r.steer},
		{Name: "observing the Job", Run: r.observe},
	}
}

// forget releases what is kept in memory for a TuningJob.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.scraper.Forget(key)
	r.departed.forget(key)
}
