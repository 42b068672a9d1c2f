// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Metrics are the engine's metrics.
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

	// orphansN machines were orphans at orphansAt.
	orphansAt time.Time
	orphansN  int
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "operation_duration_seconds",
			Help:    "Duration of operations on agent pools, by kind and outcome: ok, or the reason of the failure.",
			Buckets: []float64{15, 30, 60, 120, 240, 480, 900, 1800},
		}, []string{"kind", "outcome"}),
		running:  gauge("operations_running", "Running operations on agent pools."),
		pools:    gauge("agent_pools", "Agent pools of this operator."),
		machines: gaugeVec("machines", "Machines in the operator's agent pools: claimed by a NodeClaim, or free.", "state"),
		claims: gaugeVec("claims",
			"NodeClaims of this operator: waiting for a machine, bound to a machine, or deleting.", "state"),
		surplus: counter("surplus_machines_deleted_total", "Machines that were deleted because no claim named them."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "claim_failures_total", Help: "NodeClaims that failed, by phase and reason.",
		}, []string{"phase", "reason"}),
		orphans: gauge("orphaned_nodes",
			"Machines in this operator's agent pools without a NodeClaim. They cost money until they are deleted."),
		orphaned: counter("orphaned_node_seconds_total", "Seconds that machines had no NodeClaim, summed over the machines."),
		age:      gauge("view_timestamp_seconds", "Unix time at which the oldest part of the view of Azure was read."),
		offerings: gaugeVec("offering_unavailable_until_seconds",
			"Unix time until which an unavailable offering is not requested. An empty label stands for all values.",
			"scope", "size", "family", "zone", "capacity_type", "reason"),
		doubts: gauge("agent_pools_in_doubt", "Agent pools that are not changed because their list of machines is wrong."),
		unmanaged: gaugeVec("agent_pools_unmanaged",
			"Agent pools with claimed machines that cannot be managed, by reason: tags replaced, or autoscaler on.", "reason"),
	}
	m.observeUnmanaged(nil)
	r.MustRegister(
		m.operations, m.running, m.pools, m.machines, m.claims, m.surplus, m.failures, m.age, m.offerings, m.orphans,
		m.orphaned, m.doubts, m.unmanaged,
	)
	return m
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func (m *Metrics) operation(op Operation, err *azure.Error, took time.Duration) {
	outcome := "ok"
	switch {
	case !op.Aborted.IsZero():
		outcome = karpenterv1alpha5.ReasonOperationTimedOut
	case err != nil:
		outcome = err.Reason
	}
	m.operations.WithLabelValues(string(op.Kind), outcome).Observe(took.Seconds())
}

// Phases of a claim in which it can fail.
const (
	PhaseLaunch       = "launch"       // until it has a machine
	PhaseRegistration = "registration" // until the machine is a Node
)

// observeUnmanaged counts the pools that cannot be managed, by reason.
func (m *Metrics) observeUnmanaged(reasons map[string]string) {
	counts := map[string]float64{
		karpenterv1alpha5.ReasonAgentPoolTagsReplaced: 0,
		karpenterv1alpha5.ReasonAgentPoolAutoscaled:   0,
	}
	for _, reason := range reasons {
		counts[reason]++
	}
	for reason, n := range counts {
		m.unmanaged.WithLabelValues(reason).Set(n)
	}
}

// observeOfferings replaces the series of unavailable offerings.
func (m *Metrics) observeOfferings(entries map[string]offering.Entry) {
	m.offerings.Reset()
	for _, e := range entries {
		m.offerings.WithLabelValues(string(e.Scope), e.Size, e.Family, e.Zone, e.CapacityType, e.Reason).
			Set(float64(e.Until.Unix()))
	}
}

// observe sets the gauges after a pass.
func (m *Metrics) observe(p *pass, operations map[string]Operation, now time.Time) {
	named := map[string]bool{}
	counts := map[string]float64{"waiting": 0, "bound": 0, "deleting": 0}
	for i := range p.claims {
		c := &p.claims[i]
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
	m.observeMachines(&p.view, named)
	m.observeOrphans(p, named, now)
	running := 0
	for _, op := range operations {
		if op.Ended.IsZero() {
			running++
		}
	}
	m.running.Set(float64(running))
	m.age.Set(float64(p.view.Oldest.Unix()))
}

// observeMachines counts the pools of this operator and their machines; named has the machines that claims name.
func (m *Metrics) observeMachines(view *azure.View, named map[string]bool) {
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
}

// observeOrphans counts the machines that no claim names, without those that this pass binds to claims.
func (m *Metrics) observeOrphans(p *pass, named map[string]bool, now time.Time) {
	for _, action := range p.decision.Actions {
		if bind, ok := action.(Bind); ok {
			named[bind.ProviderID] = true
		}
	}
	n := 0
	for i := range p.view.Pools {
		pool := &p.view.Pools[i]
		if !pool.Ours() || !p.view.Cluster.Writable() {
			continue // the machines of a stopped cluster do not run
		}
		for _, machine := range pool.Machines {
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
