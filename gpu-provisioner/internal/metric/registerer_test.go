// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMetricsHaveBothNames(t *testing.T) {
	registry := prometheus.NewRegistry()
	machines := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "machines", Help: "Machines."}, []string{"state"})
	Registerer(registry).MustRegister(machines)
	machines.WithLabelValues("free").Set(2)

	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP gpu_provisioner_machines Machines.
# TYPE gpu_provisioner_machines gauge
gpu_provisioner_machines{state="free"} 2
# HELP kaito_provisioner_machines Machines.
# TYPE kaito_provisioner_machines gauge
kaito_provisioner_machines{state="free"} 2
`)))
}

func TestRegisterAndUnregister(t *testing.T) {
	r := Registerer(prometheus.NewRegistry())
	running := prometheus.NewGauge(prometheus.GaugeOpts{Name: "operations_running", Help: "Operations."})
	require.NoError(t, r.Register(running))
	require.Error(t, r.Register(running), "registered already")
	assert.True(t, r.Unregister(running))
	assert.False(t, r.Unregister(running))
}
