// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
)

// Metrics are the metrics of TuningJobs. Their reasons are constants of the API, so that there are few time series.
type Metrics struct {
	finished *prometheus.CounterVec
	attempts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaito_tuningjobs_finished_total",
			Help: "Number of finished TuningJobs, by result (succeeded, failed) and reason.",
		}, []string{"result", "reason"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaito_tuningjob_attempts_total",
			Help: "Number of failed attempts of TuningJobs, by reason.",
		}, []string{"reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kaito_tuningjob_duration_seconds", Help: "Time from the start of the first container to the end of the TuningJob, by result.",
			Buckets: prometheus.ExponentialBuckets(60, 2, 12), // a minute to a day and a half
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.finished, m.attempts, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// observe counts the changes of a written status.
func (m *Metrics) observe(before, after *tuningv1alpha1.TuningJob) {
	if !finished(before) && finished(after) {
		result := "failed"
		if conditions.IsTrue(after, tuningv1alpha1.ConditionSucceeded) {
			result = "succeeded"
		}
		m.finished.WithLabelValues(result, conditions.Get(after, conditions.Ready).Reason).Inc()
		if s, e := after.Status.StartTime, after.Status.CompletionTime; s != nil && e != nil {
			m.seconds.WithLabelValues(result).Observe(e.Sub(s.Time).Seconds())
		}
	}
	known := map[string]int{}
	for _, a := range before.Status.Attempts {
		known[a.Reason+a.Time.String()]++
	}
	for _, a := range after.Status.Attempts {
		if known[a.Reason+a.Time.String()] > 0 {
			known[a.Reason+a.Time.String()]--
			continue
		}
		m.attempts.WithLabelValues(a.Reason).Inc()
	}
}
