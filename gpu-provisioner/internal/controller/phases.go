// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
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

// Phases of a claim's life: each ends with a condition of core's, but for the last, which ends with the claim.
const (
	phaseLaunch         = "launch"         // from creation until the claim has a machine
	phaseRegistration   = "registration"   // until the machine is a Node
	phaseInitialization = "initialization" // until the Node has its GPUs
	phaseTermination    = "termination"    // from deletion until the machine is gone
)

// Phases measures how long claims are in each phase. It only reads.
type Phases struct {
	Client   client.Client
	Provider corecloud.CloudProvider
	Clock    clock.PassiveClock

	took    *prometheus.HistogramVec
	started time.Time
	mu      sync.Mutex
	seen    map[string]*life // by claim
}

// life is what was measured of a claim already.
type life struct {
	measured map[string]bool // phases
	deleted  time.Time
}

// SetupWithManager adds the controller and its metric.
func (p *Phases) SetupWithManager(mgr ctrl.Manager, metrics prometheus.Registerer) error {
	p.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "gpu_provisioner_claim_phase_duration_seconds",
		Help:    "How long NodeClaims were in a phase that ended well: launch, registration, initialization, termination.",
		Buckets: []float64{5, 15, 30, 60, 120, 240, 480, 900, 1800, 3600},
	}, []string{"phase"})
	if err := metrics.Register(p.took); err != nil {
		return fmt.Errorf("registering a metric: %w", err)
	}
	p.started, p.seen = p.Clock.Now(), map[string]*life{}
	return ctrl.NewControllerManagedBy(mgr).
		Named("phases").
		For(&karpv1.NodeClaim{}, builder.WithPredicates(nodeclaimutils.IsManagedPredicateFuncs(p.Provider))).
		Complete(p)
}

// Reconcile measures the phases that have ended since the claim was looked at last.
func (p *Phases) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	claim := &karpv1.NodeClaim{}
	err := p.Client.Get(ctx, request.NamespacedName, claim)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.gone(request.Name)
		return reconcile.Result{}, nil
	}
	l := p.seen[request.Name]
	if l == nil {
		l = &life{measured: map[string]bool{}}
		p.seen[request.Name] = l
	}
	if !claim.DeletionTimestamp.IsZero() {
		l.deleted = claim.DeletionTimestamp.Time
	}
	from := claim.CreationTimestamp.Time
	for _, phase := range []struct{ name, condition string }{
		{phaseLaunch, karpv1.ConditionTypeLaunched}, {phaseRegistration, karpv1.ConditionTypeRegistered}, {phaseInitialization, karpv1.ConditionTypeInitialized},
	} {
		condition := claim.StatusConditions().Get(phase.condition)
		if !condition.IsTrue() {
			break
		}
		until := condition.LastTransitionTime.Time
		// What ended before this process began was another one's to measure.
		if !l.measured[phase.name] && !until.Before(p.started.Truncate(time.Second)) {
			p.took.WithLabelValues(phase.name).Observe(max(0, until.Sub(from).Seconds()))
		}
		l.measured[phase.name] = true
		from = until
	}
	return reconcile.Result{}, nil
}

// gone measures the termination of a claim that had a machine.
func (p *Phases) gone(name string) {
	if l := p.seen[name]; l != nil && !l.deleted.IsZero() && l.measured[phaseLaunch] {
		p.took.WithLabelValues(phaseTermination).Observe(max(0, p.Clock.Since(l.deleted).Seconds()))
	}
	delete(p.seen, name)
}
