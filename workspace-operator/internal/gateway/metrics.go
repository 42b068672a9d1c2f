// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// maxMetricsBytes limits the engine's metrics; those of vLLM have some hundred kilobytes.
const maxMetricsBytes = 8 << 20

// ownPrefixes are the prefixes of the gateway's metrics. Metrics of the engine with these prefixes are dropped.
// The list is read only.
var ownPrefixes = [][]byte{[]byte("kaito_gateway_"), []byte("go_")}

type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	firstByte *prometheus.HistogramVec
	queueWait prometheus.Histogram
	cut       *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	inFlight  prometheus.Gauge
	engineUp  prometheus.Gauge
	reloads   *prometheus.CounterVec
}

func newMetrics(l *limiter, draining func() bool) *metrics {
	name := func(s string) string { return "kaito_gateway_" + s }
	// 1 ms (a list of models) to 10 minutes (a long answer).
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("requests_total"),
			Help: "Requests answered, by route and status; 499 is a client that disconnected before the answer.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    name("request_duration_seconds"),
			Help:    "Time from a request's headers to the end of its answer, including the queue.",
			Buckets: buckets,
		}, []string{"route"}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    name("time_to_first_byte_seconds"),
			Help:    "Time from a request's headers to the first byte of its answer's body.",
			Buckets: buckets,
		}, []string{"route"}),
		queueWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    name("queue_wait_seconds"),
			Help:    "Time from a request's headers until it got a place in the engine.",
			Buckets: buckets,
		}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("answers_cut_total"),
			Help: "Incomplete answers, by cause: client, engine or deadline.",
		}, []string{"route", "by"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("refusals_total"), Help: "Requests refused by the gateway, by the code of the error.",
		}, []string{"code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("requests_in_flight"), Help: "Requests being answered or queued.",
		}),
		engineUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("engine_up"), Help: "Whether the engine's metrics could be read for this scrape.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("api_key_reloads_total"), Help: "Attempts to read a changed key file, by result: success or error.",
		}, []string{"result"}),
	}
	m.registry.MustRegister(
		m.requests,
		m.duration,
		m.firstByte,
		m.queueWait,
		m.cut,
		m.refusals,
		m.inFlight,
		m.engineUp,
		m.reloads,
		collectors.NewGoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("requests_queued"), Help: "Requests that wait for a place in the engine.",
		}, func() float64 { return float64(l.queued.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("places_taken"), Help: "Requests that run in the engine.",
		}, func() float64 { return float64(l.running.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("places"), Help: "Maximum of requests that run in the engine (--max-concurrent).",
		}, func() float64 { return float64(l.capacity) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("draining"), Help: "Whether the gateway is stopping.",
		}, func() float64 {
			if draining() {
				return 1
			}
			return 0
		}),
	)
	return m
}

func (m *metrics) refused(code string) { m.refusals.WithLabelValues(code).Inc() }

func (m *metrics) keyReload(err error) {
	result := "success"
	if err != nil {
		result = "error"
	}
	m.reloads.WithLabelValues(result).Inc()
}

func (m *metrics) finished(ex *exchange, status int, elapsed time.Duration, cut string) {
	pattern := ex.route.pattern
	m.requests.WithLabelValues(pattern, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(pattern).Observe(elapsed.Seconds())
	if !ex.rec.firstByte.IsZero() {
		m.firstByte.WithLabelValues(pattern).Observe(ex.rec.firstByte.Sub(ex.start).Seconds())
	}
	if cut != "" {
		m.cut.WithLabelValues(pattern, cut).Inc()
	}
}

// serveMetrics writes the metrics of the gateway and of the engine. If the engine fails, it writes the gateway's.
func (g *Gateway) serveMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	engine, err := g.get(ctx, "/metrics", maxMetricsBytes)
	if err != nil {
		g.metrics.engineUp.Set(0)
		g.logger.Debug("Omitting the engine's metrics", "error", err)
	} else {
		g.metrics.engineUp.Set(1)
	}
	families, err := g.metrics.registry.Gather()
	if err != nil {
		g.logger.Error("Gathering the metrics failed", "error", err)
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	page := &bytes.Buffer{}
	encoder := expfmt.NewEncoder(page, format)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			g.logger.Error("Encoding a metric failed", "metric", family.GetName(), "error", err)
		}
	}
	appendEngineMetrics(page, engine)
	w.Header().Set("Content-Type", string(format))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(page.Bytes()) // a failed write means that the scraper disconnected
}

// appendEngineMetrics copies the engine's metrics, except for lines that would make the result invalid: names of the
// gateway's metrics, and OpenMetrics' end mark.
func appendEngineMetrics(page *bytes.Buffer, engine []byte) {
	for line := range bytes.Lines(engine) {
		name := line
		for _, comment := range []string{"# HELP ", "# TYPE "} {
			name = bytes.TrimPrefix(name, []byte(comment))
		}
		skip := bytes.HasPrefix(line, []byte("# EOF"))
		for _, prefix := range ownPrefixes {
			skip = skip || bytes.HasPrefix(name, prefix)
		}
		if !skip {
			page.Write(line)
		}
	}
	if n := page.Len(); n > 0 && page.Bytes()[n-1] != '\n' {
		page.WriteByte('\n')
	}
}
