// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
)

// Metrics are the engine's.
type Metrics struct {
	operations *prometheus.HistogramVec
	running    prometheus.Gauge
	pools      prometheus.Gauge
	machines   *prometheus.GaugeVec
	claims     *prometheus.GaugeVec
	surplus    prometheus.Counter
	failures   *prometheus.CounterVec
	age        prometheus.Gauge
	offerings  *prometheus.GaugeVec
	orphans    prometheus.Gauge
	orphaned   prometheus.Counter
	doubts     prometheus.Gauge
	unmanaged  *prometheus.GaugeVec

	// Since when so many machines are orphaned.
	orphansAt time.Time
	orphansN  int
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "operation_duration_seconds",
			Help:    "How long operations on agent pools took, by kind and outcome: ok, or the reason.",
			Buckets: []float64{15, 30, 60, 120, 240, 480, 900, 1800},
		}, []string{"kind", "outcome"}),
		running: prometheus.NewGauge(
			prometheus.GaugeOpts{Name: "operations_running", Help: "Operations on agent pools that run now."},
		),
		pools: prometheus.NewGauge(
			prometheus.GaugeOpts{Name: "agent_pools", Help: "Agent pools of this operator, by the last view."},
		),
		machines: prometheus.NewGaugeVec(
			prometheus.GaugeOpts{
				Name: "machines",
				Help: "Machines in those pools: claimed by a NodeClaim, or free.",
			},
			[]string{"state"},
		),
		claims: prometheus.NewGaugeVec(
			prometheus.GaugeOpts{
				Name: "claims",
				Help: "NodeClaims of this operator: waiting for a machine, bound to one, or deleting.",
			},
			[]string{"state"},
		),
		surplus: prometheus.NewCounter(
			prometheus.CounterOpts{
				Name: "surplus_machines_deleted_total",
				Help: "Machines that were deleted since no claim named them.",
			},
		),
		failures: prometheus.NewCounterVec(
			prometheus.CounterOpts{
				Name: "claim_failures_total",
				Help: "NodeClaims that were given up, by the phase that they were in and by reason.",
			},
			[]string{"phase", "reason"},
		),
		orphans: prometheus.NewGauge(
			prometheus.GaugeOpts{
				Name: "orphaned_nodes",
				Help: "Machines in this operator's agent pools that no NodeClaim names or waits for. They cost money until they are deleted.",
			},
		),
		orphaned: prometheus.NewCounter(
			prometheus.CounterOpts{
				Name: "orphaned_node_seconds_total",
				Help: "Seconds that machines were orphaned, summed over the machines.",
			},
		),
		age: prometheus.NewGauge(
			prometheus.GaugeOpts{
				Name: "view_timestamp_seconds",
				Help: "When the oldest part of the view of Azure was read, in Unix seconds.",
			},
		),
	}
	m.offerings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "offering_unavailable_until_seconds",
		Help: "Offerings that are not tried now, and until when, in Unix seconds. An empty label stands for all.",
	}, []string{"scope", "size", "family", "zone", "capacity_type", "reason"})
	m.doubts = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "agent_pools_in_doubt",
		Help: "Agent pools that are left alone, since the list of their machines cannot be right.",
	})
	m.unmanaged = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "agent_pools_unmanaged",
		Help: "Agent pools with machines of NodeClaims that cannot be managed, by reason: their tags were replaced, or their autoscaler is on.",
	}, []string{"reason"})
	m.showUnmanaged(nil)
	r.MustRegister(
		m.operations, m.running, m.pools, m.machines, m.claims, m.surplus, m.failures, m.age, m.offerings, m.orphans,
		m.orphaned, m.doubts, m.unmanaged,
	)
	return m
}

func (m *Metrics) operation(op Operation, err *azure.Error, took time.Duration) {
	outcome := "ok"
	switch {
	case !op.Aborted.IsZero():
		outcome = ReasonOperationTimedOut
	case err != nil:
		outcome = err.Reason
	}
	m.operations.WithLabelValues(string(op.Kind), outcome).Observe(took.Seconds())
}

// Phases of a claim's life that a failure can end.
const (
	PhaseLaunch       = "launch"       // until it has a machine
	PhaseRegistration = "registration" // until the machine is a Node
)

// orphansAre counts the machines that nobody names, after the decision has given some of them to claims, and how long
// they are so.
func (m *Metrics) orphansAre(view *azure.View, claims []Claim, decision Decision, now time.Time) {
	named := map[string]bool{}
	for i := range claims {
		named[claims[i].ProviderID] = true
	}
	for _, action := range decision.Actions {
		if bind, ok := action.(Bind); ok {
			named[bind.ProviderID] = true
		}
	}
	n := 0
	for i := range view.Pools {
		p := &view.Pools[i]
		if !p.Ours() || !view.Cluster.Writable() {
			continue // of a stopped cluster no machine runs
		}
		for _, machine := range p.Machines {
			if !named[machine.ProviderID] {
				n++
			}
		}
	}
	if m.orphansN > 0 {
		m.orphaned.Add(now.Sub(m.orphansAt).Seconds() * float64(m.orphansN))
	}
	m.orphansN, m.orphansAt = n, now
	m.orphans.Set(float64(n))
}

// showUnmanaged counts pools by why they cannot be managed.
func (m *Metrics) showUnmanaged(reasons map[string]string) {
	counts := map[string]float64{ReasonTagsReplaced: 0, ReasonAutoscaled: 0}
	for _, reason := range reasons {
		counts[reason]++
	}
	for reason, n := range counts {
		m.unmanaged.WithLabelValues(reason).Set(n)
	}
}

func (m *Metrics) showOfferings(entries map[string]offering.Entry) {
	m.offerings.Reset()
	for _, e := range entries {
		m.offerings.WithLabelValues(string(e.Scope), e.Size, e.Family, e.Zone, e.CapacityType, e.Reason).
			Set(float64(e.Until.Unix()))
	}
}

func (m *Metrics) observe(view *azure.View, claims []Claim, operations map[string]Operation) {
	named := map[string]bool{}
	counts := map[string]float64{"waiting": 0, "bound": 0, "deleting": 0}
	for i := range claims {
		c := &claims[i]
		named[c.ProviderID] = true
		switch {
		case c.Deleting:
			counts["deleting"]++
		case c.ProviderID != "":
			counts["bound"]++
		default:
			counts["waiting"]++
		}
	}
	for state, n := range counts {
		m.claims.WithLabelValues(state).Set(n)
	}
	pools, claimed, free := 0, 0, 0
	for i := range view.Pools {
		p := &view.Pools[i]
		if !p.Ours() {
			continue
		}
		pools++
		for _, machine := range p.Machines {
			if named[machine.ProviderID] {
				claimed++
			} else {
				free++
			}
		}
	}
	m.pools.Set(float64(pools))
	m.machines.WithLabelValues("claimed").Set(float64(claimed))
	m.machines.WithLabelValues("free").Set(float64(free))
	running := 0
	for _, op := range operations {
		if op.Ended.IsZero() {
			running++
		}
	}
	m.running.Set(float64(running))
	m.age.Set(float64(view.Oldest.Unix()))
}
