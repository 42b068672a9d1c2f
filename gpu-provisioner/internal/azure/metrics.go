// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of calls to Azure.
type Metrics struct {
	calls    *prometheus.CounterVec
	identity prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "azure_calls_total",
			Help: "Calls to Azure by verb, outcome (ok, or the reason of the error) and Azure's own error code.",
		}, []string{"verb", "outcome", "code"}),
		identity: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "identity_usable",
			Help: "1 while Entra issues tokens and ARM allows reads of the cluster, otherwise 0.",
		}),
	}
	r.MustRegister(m.calls, m.identity)
	return m
}

// codeShape limits the error codes that become label values.
var codeShape = regexp.MustCompile(`^[A-Za-z0-9_.]{1,80}$`)

func (m *Metrics) call(verb string, err *Error) {
	outcome, code := "ok", ""
	if err != nil {
		outcome = err.Reason
		if codeShape.MatchString(err.Code) {
			code = err.Code
		}
	}
	m.calls.WithLabelValues(verb, outcome, code).Inc()
}

func (m *Metrics) identityUsable(usable bool) {
	if usable {
		m.identity.Set(1)
	} else {
		m.identity.Set(0)
	}
}
