package azure

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the counters of the Azure layer.
type Metrics struct {
	calls *prometheus.CounterVec
}

// NewMetrics registers the counters.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gpu_provisioner_azure_calls_total",
		Help: "Calls to Azure by verb and outcome: ok, or the reason of the error.",
	}, []string{"verb", "outcome"})}
	r.MustRegister(m.calls)
	return m
}

func (m *Metrics) call(verb string, err *Error) {
	outcome := "ok"
	if err != nil {
		outcome = err.Reason
	}
	m.calls.WithLabelValues(verb, outcome).Inc()
}
