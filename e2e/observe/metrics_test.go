// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/test/eventually"
)

// sample is one series: its family and its labels' values, and a histogram's count.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// scrape reads the gpu-provisioner's /metrics.
func scrape(t require.TestingT) []sample { return scrapeFrom(t, shared.Metrics[stack.GPUProvisioner]) }

// scrapeFrom reads /metrics as Prometheus does. Histograms have the names that PromQL knows them by.
func scrapeFrom(t require.TestingT, address string) []sample {
	response, err := http.Get("http://" + address + "/metrics")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }() // read to the end
	require.Equal(t, http.StatusOK, response.StatusCode)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	require.NoError(t, err)
	var out []sample
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				for suffix, value := range map[string]float64{"_count": float64(h.GetSampleCount()), "_sum": h.GetSampleSum(), "_bucket": float64(len(h.GetBucket()))} {
					out = append(out, sample{name + suffix, labels, value})
				}
				continue
			}
			out = append(
				out,
				sample{
					name,
					labels,
					m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue() + m.GetSummary().GetSampleSum(),
				},
			)
		}
	}
	return out
}

// value sums the series of a name that have those labels, given as pairs.
func value(samples []sample, name string, labels ...string) float64 {
	sum := 0.0
	for _, s := range samples {
		fits := s.name == name
		for i := 0; i < len(labels); i += 2 {
			fits = fits && s.labels[labels[i]] == labels[i+1]
		}
		if fits {
			sum += s.value
		}
	}
	return sum
}

func eventuallyMetrics(t *testing.T, check func(*assert.CollectT, []sample)) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { check(c, scrape(c)) }, journey, 4*eventually.StoryTick)
}

// orphans are machines in a pool that bears this operator's tags and that no claim asked for: what a killed process
// might leave.
func orphans(t *testing.T, count int) {
	t.Helper()
	shared.Azure.AddForeignPool("gorphaned0", t4, count, map[string]string{
		"kaito.sh_managed-by": "gpu-provisioner", "kaito.sh_pool-key": "orphaned", "kaito.sh_cluster-uid": clusterUID(t),
	})
}

func TestOrphanedMachinesAreCountedUntilTheyAreGone(t *testing.T) {
	before := value(scrape(t), "kaito_provisioner_orphaned_node_seconds_total")
	deleted := value(scrape(t), "kaito_provisioner_surplus_machines_deleted_total")
	others := map[string]string{
		"kaito.sh_managed-by":  "gpu-provisioner",
		"kaito.sh_pool-key":    "elsewhere",
		"kaito.sh_cluster-uid": "another cluster's",
	}
	shared.Azure.AddForeignPool("gelsewhere0", t4, 3, others)
	orphans(t, 2)
	eventuallyMetrics(t, func(c *assert.CollectT, s []sample) {
		assert.InDelta(c, 2, value(s, "kaito_provisioner_orphaned_nodes"), 0)
	})
	eventuallyMetrics(t, func(c *assert.CollectT, s []sample) {
		assert.Zero(c, value(s, "kaito_provisioner_orphaned_nodes"), "garbage collection has deleted them")
	})
	// Two machines for the grace of three seconds at least.
	assert.Greater(t, value(scrape(t), "kaito_provisioner_orphaned_node_seconds_total")-before, 6.0)
	assert.InDelta(t, 2, value(scrape(t), "kaito_provisioner_surplus_machines_deleted_total")-deleted, 0)
	pools := shared.Azure.State().Pools
	require.Len(t, pools, 1)
	assert.Equal(
		t, "gelsewhere0", pools[0].Name, "what an operator of another cluster made is neither counted nor touched",
	)
	assert.Len(t, pools[0].Machines, 3)
	shared.Azure.RemovePool("gelsewhere0")
}

// live lets everything happen that a metric tells, once for all tests.
func live(t *testing.T) {
	t.Helper()
	if shared.lived {
		return
	}
	shared.lived = true
	shared.Azure.SetQuota(map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 10}})
	shared.Azure.AddFault(fakeazure.Fault{Verb: "listUsages", Times: 1, Kind: "ServerError"})
	shared.Azure.AddFault(fakeazure.Fault{Verb: "putPool", Size: "Standard_NC6s_v3", Times: 1, Kind: "AllocationFailed"})
	shared.Azure.AddFault(fakeazure.Fault{Size: "Standard_NC8as_T4_v3", Times: 1, NoGPU: true})
	ask(
		t, machine("good", t4), machine("poor", a100), machine("scarce", "Standard_NC6s_v3"),
		machine("blind", "Standard_NC8as_T4_v3"),
	)
	ready(t, "good")
	condition(t, "poor", karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, "QuotaExceeded")
	condition(t, "scarce", karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, "CapacityUnavailable")
	condition(t, "blind", karpenterv1alpha5.ConditionMachineInitialized, corev1.ConditionFalse, "AcceleratorNotReady")
	orphans(t, 1)
	eventuallyMetrics(
		t, func(c *assert.CollectT, s []sample) { assert.Positive(c, value(s, "kaito_provisioner_orphaned_nodes")) },
	)
	empty(t)
	shared.Azure.ClearFaults()
	shared.Azure.SetQuota(map[string]fakeazure.Quota{"StandardNCADSA100v4Family": {Limit: 100_000}})
}

var ownMetric = regexp.MustCompile(`kaito_provisioner_[a-z_]+`)

// named are the operator's metrics that a file speaks of.
func named(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "gpu-provisioner", file))
	require.NoError(t, err)
	out := ownMetric.FindAllString(string(text), -1)
	slices.Sort(out)
	return slices.Compact(out)
}

func TestEveryMetricIsServedFedAndDocumented(t *testing.T) {
	live(t)
	samples := scrape(t)
	served := map[string]bool{}
	for _, s := range samples {
		served[s.name] = true
		if base, ok := strings.CutSuffix(s.name, "_count"); ok {
			served[base] = true // a histogram's own name
		}
	}
	documented := named(t, "README.md")
	for _, name := range documented {
		assert.True(t, served[name], "%s is in the README and not in /metrics", name)
	}
	for name := range served {
		if suffix, ok := strings.CutPrefix(name, "kaito_provisioner_"); ok {
			assert.True(t, served["gpu_provisioner_"+suffix], "%s lacks its former name", name)
		}
		base := regexp.MustCompile(`_(count|sum|bucket)$`).ReplaceAllString(name, "")
		if ownMetric.MatchString(name) && !slices.Contains(documented, name) {
			assert.Contains(t, documented, base, "/metrics has it and the README does not")
		}
	}
	for _, fed := range []struct {
		name   string
		labels []string
	}{
		{"kaito_provisioner_azure_calls_total", []string{"verb", "putPool", "outcome", "ok", "code", ""}},
		{"kaito_provisioner_azure_calls_total", []string{"verb", "listUsages", "outcome", "AzureError", "code", "InternalServerError"}},
		{"kaito_provisioner_operation_duration_seconds_count", []string{"kind", "put", "outcome", "ok"}},
		{"kaito_provisioner_operation_duration_seconds_count", []string{"kind", "put", "outcome", "CapacityUnavailable"}},
		{"kaito_provisioner_claim_failures_total", []string{"phase", "launch", "reason", "QuotaExceeded"}},
		{"kaito_provisioner_claim_failures_total", []string{"phase", "launch", "reason", "CapacityUnavailable"}},
		{"kaito_provisioner_claim_phase_duration_seconds_count", []string{"phase", "launch"}},
		{"kaito_provisioner_claim_phase_duration_seconds_count", []string{"phase", "registration"}},
		{"kaito_provisioner_claim_phase_duration_seconds_count", []string{"phase", "initialization"}},
		{"kaito_provisioner_claim_phase_duration_seconds_count", []string{"phase", "termination"}},
		{"kaito_provisioner_offering_unavailable_until_seconds", []string{"reason", "CapacityUnavailable"}},
		{"kaito_provisioner_accelerator_not_ready_total", nil},
		{"kaito_provisioner_identity_usable", nil},
		{"kaito_provisioner_view_timestamp_seconds", nil},
		{"kaito_provisioner_orphaned_node_seconds_total", nil},
		{"kaito_provisioner_surplus_machines_deleted_total", nil},
	} {
		assert.Positive(t, value(samples, fed.name, fed.labels...), "%s %v", fed.name, fed.labels)
	}
}

// names are those of the series that are served now.
func names(samples []sample) map[string]bool {
	out := map[string]bool{}
	for _, s := range samples {
		out[s.name] = true
	}
	return out
}
