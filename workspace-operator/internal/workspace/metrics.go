// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
)

// Phases of a Workspace's way to Ready, as the label "phase".
const (
	phaseNodes  = "nodes"  // from asking for nodes until all are usable
	phaseTuning = "tuning" // from then until the model is tuned
	phaseEngine = "engine" // from then until the engine answers
	phaseTotal  = "total"  // from the Workspace's creation until the engine answers
)

// Metrics are fed by status changes, and by the caches when they are scraped.
type Metrics struct {
	phases   *prometheus.HistogramVec
	attempts *prometheus.CounterVec

	reader client.Reader
	clock  clock.PassiveClock
	states *prometheus.Desc
	cost   *prometheus.Desc
	gpus   *prometheus.Desc
	hours  *prometheus.Desc

	mu      sync.Mutex
	scraped time.Time
	spent   map[string]float64 // GPU-hours by namespace
}

// scrapeLimit bounds the reading of caches for one scrape.
const scrapeLimit = 5 * time.Second

// NewMetrics registers the metrics. reader reads caches.
func NewMetrics(registry prometheus.Registerer, reader client.Reader, clk clock.PassiveClock) (*Metrics, error) {
	m := &Metrics{
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kaito_workspace_phase_duration_seconds", Help: "How long each phase of a Workspace's way to Ready took.",
			// A node takes 2 to 15 minutes, a tuning run hours, an engine 1 to 20 minutes.
			Buckets: []float64{5, 15, 30, 60, 120, 240, 480, 900, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600},
		}, []string{"phase"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaito_workspace_failed_attempts_total", Help: "Tries to get nodes that failed.",
		}, []string{"instance_type", "capacity_type", "reason"}),
		reader:  reader,
		clock:   clk,
		scraped: clk.Now(),
		spent:   map[string]float64{},
		states: prometheus.NewDesc(
			"kaito_workspaces", "Workspaces by where they stand, and why.", []string{"state", "reason"}, nil,
		),
		cost: prometheus.NewDesc(
			"kaito_workspace_cost_dollars_per_hour", "List price of the nodes in use, US dollars an hour.",
			[]string{"namespace"}, nil,
		),
		gpus: prometheus.NewDesc("kaito_workspace_gpus", "GPUs in use.", []string{"namespace"}, nil),
		hours: prometheus.NewDesc(
			"kaito_workspace_gpu_hours_total", "Hours of GPUs in use, counted from one scrape to the next.",
			[]string{"namespace"}, nil,
		),
	}
	for _, c := range []prometheus.Collector{m.phases, m.attempts, m} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// record counts what a status write has changed. A nil receiver counts nothing.
func (m *Metrics) record(before kaitov1alpha1.WorkspaceStatus, after *kaitov1alpha1.Workspace) {
	if m == nil {
		return
	}
	for _, a := range newAttempts(before.Attempts, after.Status.Attempts) {
		m.attempts.WithLabelValues(a.InstanceType, string(a.CapacityType), a.Reason).Inc()
	}
	now := after.Status.Milestones
	if now == nil {
		return
	}
	was := before.Milestones
	if was == nil {
		was = &kaitov1alpha1.Milestones{}
	}
	created := after.CreationTimestamp
	served := now.NodesReady
	if now.Tuned != nil {
		served = now.Tuned
	}
	m.took(phaseNodes, was.NodesReady, now.NodesRequested, now.NodesReady)
	m.took(phaseTuning, was.Tuned, now.NodesReady, now.Tuned)
	m.took(phaseEngine, was.EngineReady, served, now.EngineReady)
	m.took(phaseTotal, was.EngineReady, &created, now.EngineReady)
}

// took observes a phase once: when its end is there and was not before.
func (m *Metrics) took(phase string, was, from, to *metav1.Time) {
	if was == nil && from != nil && to != nil {
		m.phases.WithLabelValues(phase).Observe(to.Sub(from.Time).Seconds())
	}
}

// newAttempts are those that the list has gained; the list keeps the last ten only.
func newAttempts(before, after []kaitov1alpha1.Attempt) []kaitov1alpha1.Attempt {
	known := map[string]bool{}
	for _, a := range before {
		known[a.Time.String()+a.Message] = true
	}
	var out []kaitov1alpha1.Attempt
	for _, a := range after {
		if !known[a.Time.String()+a.Message] {
			out = append(out, a)
		}
	}
	return out
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.states
	out <- m.cost
	out <- m.gpus
	out <- m.hours
}

// Collect implements prometheus.Collector: what is counted is what the caches have at this moment.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	list := &kaitov1alpha1.WorkspaceList{}
	if err := m.reader.List(ctx, list); err != nil {
		return // the caches are not there yet; an invalid metric would fail the whole page
	}
	type place struct{ state, reason string }
	states, cost, gpus := map[place]float64{}, map[string]float64{}, map[string]float64{}
	for i := range list.Items {
		w := &list.Items[i]
		states[place{string(w.Status.State), readyReason(w)}]++
		if p := w.Status.Plan; p != nil && len(w.Status.WorkerNodes) > 0 {
			gpus[w.Namespace] += float64(len(w.Status.WorkerNodes)) * float64(p.GPUsPerNode)
			if usd, err := strconv.ParseFloat(p.CostPerHour, 64); err == nil && p.Nodes > 0 {
				cost[w.Namespace] += usd * float64(len(w.Status.WorkerNodes)) / float64(p.Nodes)
			}
		}
	}
	for s, n := range states {
		out <- prometheus.MustNewConstMetric(m.states, prometheus.GaugeValue, n, s.state, s.reason)
	}
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, values map[string]float64) {
		for namespace, v := range values {
			out <- prometheus.MustNewConstMetric(desc, kind, v, namespace)
		}
	}
	send(m.cost, prometheus.GaugeValue, cost)
	send(m.gpus, prometheus.GaugeValue, gpus)
	send(m.hours, prometheus.CounterValue, m.add(gpus))
}

func readyReason(w *kaitov1alpha1.Workspace) string {
	if c := conditions.Get(w, conditions.Ready); c != nil {
		return c.Reason
	}
	return ""
}

// add counts the time since the last scrape, with the GPUs that are in use now, and returns a copy of the sums.
func (m *Metrics) add(gpus map[string]float64) map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	hours := now.Sub(m.scraped).Hours()
	m.scraped = now
	out := map[string]float64{}
	for namespace, n := range gpus {
		m.spent[namespace] += n * hours
	}
	for namespace, v := range m.spent {
		out[namespace] = v
	}
	return out
}
