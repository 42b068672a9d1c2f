// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"
)

// Phases of a NodeClaim. Each but the last ends when one of Karpenter's conditions becomes True.
const (
	launch         = "launch"         // from creation until the claim has a machine
	registration   = "registration"   // until the machine is a Node
	initialization = "initialization" // until the Node has its GPUs
	termination    = "termination"    // from deletion until the claim, and with it the machine, is gone
)

// Config is what the reconciler needs.
type Config struct {
	Client   client.Client
	Provider corecloud.CloudProvider
	Metrics  prometheus.Registerer
	Clock    clock.PassiveClock
}

// Reconciler measures the phases of NodeClaims. It writes nothing.
type Reconciler struct {
	Config
	duration *prometheus.HistogramVec
	started  time.Time

	mu     sync.Mutex
	claims map[string]*progress // by claim
}

// progress is what was measured of a claim.
type progress struct {
	measured map[string]bool // by phase
	deleted  time.Time
}

// New returns a Reconciler and registers its metric.
func New(c Config) *Reconciler {
	r := &Reconciler{Config: c, started: c.Clock.Now(), claims: map[string]*progress{},
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "claim_phase_duration_seconds",
			Help:    "Duration of the phases of NodeClaims that succeeded: launch, registration, initialization, termination.",
			Buckets: []float64{5, 15, 30, 60, 120, 240, 480, 900, 1800, 3600},
		}, []string{"phase"})}
	c.Metrics.MustRegister(r.duration)
	return r
}

// SetupWithManager adds the controller to the manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("phases").
		For(&karpv1.NodeClaim{}, builder.WithPredicates(nodeclaimutils.IsManagedPredicateFuncs(r.Provider))).
		Complete(r)
}

// Reconcile measures the phases that ended since the claim was last reconciled.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &karpv1.NodeClaim{}
	err := r.Client.Get(ctx, request.NamespacedName, claim)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.gone(request.Name)
		return reconcile.Result{}, nil
	}
	p := r.claims[request.Name]
	if p == nil {
		p = &progress{measured: map[string]bool{}}
		r.claims[request.Name] = p
	}
	if !claim.DeletionTimestamp.IsZero() {
		p.deleted = claim.DeletionTimestamp.Time
	}
	from := claim.CreationTimestamp.Time
	for _, phase := range []struct{ name, condition string }{
		{launch, karpv1.ConditionTypeLaunched}, {registration, karpv1.ConditionTypeRegistered},
		{initialization, karpv1.ConditionTypeInitialized},
	} {
		condition := claim.StatusConditions().Get(phase.condition)
		if !condition.IsTrue() {
			break
		}
		until := condition.LastTransitionTime.Time
		// An earlier process has measured the phases that ended before this one started.
		if !p.measured[phase.name] && !until.Before(r.started.Truncate(time.Second)) {
			r.duration.WithLabelValues(phase.name).Observe(max(0, until.Sub(from).Seconds()))
		}
		p.measured[phase.name] = true
		from = until
	}
	return reconcile.Result{}, nil
}

// gone measures the termination of a claim that had a machine.
func (r *Reconciler) gone(name string) {
	if p := r.claims[name]; p != nil && !p.deleted.IsZero() && p.measured[launch] {
		r.duration.WithLabelValues(termination).Observe(max(0, r.Clock.Since(p.deleted).Seconds()))
	}
	delete(r.claims, name)
}
