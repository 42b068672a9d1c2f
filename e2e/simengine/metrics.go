// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// kvCacheTokens is how many tokens the pretended KV cache holds; a small GPU's for a small model.
const kvCacheTokens = 65536

// meters are vLLM's metrics, by its names, labels and buckets (vllm/v1/metrics/loggers.py).
type meters struct {
	engine   *Engine
	registry *prometheus.Registry

	running, waiting, cache prometheus.Gauge
	prompt, generated       prometheus.Counter
	success                 *prometheus.CounterVec
	firstToken, eachToken   prometheus.Histogram
	latency                 prometheus.Histogram
	lora                    *prometheus.GaugeVec

	// load is how many requests run or wait.
	load atomic.Int64

	mu           sync.Mutex
	cached       int
	runningLoras map[string]int
	waitingLoras map[string]int
}

func newMeters(e *Engine) *meters {
	labels := prometheus.Labels{"model_name": e.opts.ServedNames[0], "engine": "0"}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(
			prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: labels, Buckets: buckets},
		)
	}
	m := &meters{
		engine:       e,
		registry:     prometheus.NewRegistry(),
		runningLoras: map[string]int{},
		waitingLoras: map[string]int{},
		running:      gauge("vllm:num_requests_running", "Number of requests in model execution batches."),
		waiting:      gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed."),
		cache:        gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
		prompt:       counter("vllm:prompt_tokens_total", "Number of prefill tokens processed."),
		generated:    counter("vllm:generation_tokens_total", "Number of generation tokens processed."),
		success: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vllm:request_success_total", Help: "Count of successfully processed requests.", ConstLabels: labels,
		}, []string{"finished_reason"}),
		firstToken: histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.",
			.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
		eachToken: histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.",
			.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80),
		latency: histogram("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.",
			.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680),
		// vLLM gives this one no labels but its own, and the time of its last change for a value.
		lora: prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: "vllm:lora_requests_info", Help: "Running stats on lora requests."},
			[]string{"max_lora", "waiting_lora_adapters", "running_lora_adapters"},
		),
	}
	m.registry.MustRegister(
		m.running, m.waiting, m.cache, m.prompt, m.generated, m.success, m.firstToken, m.eachToken, m.latency,
	)
	if e.opts.EnableLoRA {
		m.registry.MustRegister(m.lora)
		m.showLoras()
	}
	return m
}

func (m *meters) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// queue counts a request that waits (1) or has stopped waiting (-1).
func (m *meters) queue(j *job, change int) {
	m.waiting.Add(float64(change))
	m.load.Add(int64(change))
	m.countLora(m.waitingLoras, j, change)
}

// run counts a request that runs (1) or has ended (-1), and the cache that its prompt and answer need.
func (m *meters) run(j *job, change int) {
	m.running.Add(float64(change))
	m.load.Add(int64(change))
	m.countLora(m.runningLoras, j, change)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cached += change * (j.prompt + len(j.tokens))
	m.cache.Set(min(float64(m.cached)/kvCacheTokens, 1))
	if change > 0 {
		m.prompt.Add(float64(j.prompt))
	}
}

func (m *meters) countLora(counts map[string]int, j *job, change int) {
	if j.adapter == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if counts[j.adapter] += change; counts[j.adapter] <= 0 {
		delete(counts, j.adapter)
	}
	m.showLoras()
}

func (m *meters) showLoras() {
	names := func(counts map[string]int) string { return strings.Join(slices.Sorted(maps.Keys(counts)), ",") }
	m.lora.Reset()
	m.lora.WithLabelValues(strconv.Itoa(m.engine.opts.MaxLoras), names(m.waitingLoras), names(m.runningLoras)).
		Set(float64(m.engine.clock.Now().UnixMilli()) / 1e3)
}

// token counts the i-th token of an answer.
func (m *meters) token(j *job, i int, sinceBegin, sinceLast time.Duration) {
	m.generated.Add(float64(j.choice))
	if i == 0 {
		m.firstToken.Observe(sinceBegin.Seconds())
		return
	}
	m.eachToken.Observe(sinceLast.Seconds())
}

// finished counts the end of a request that ran: by stop, length or abort.
func (m *meters) finished(reason string, took time.Duration) {
	m.success.WithLabelValues(reason).Inc()
	m.latency.Observe(took.Seconds())
}
