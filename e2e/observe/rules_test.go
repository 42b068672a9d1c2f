// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/stack"
)

// monitoring is a file of an operator's config/prometheus.
func monitoring(t *testing.T, o stack.Operator, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, string(o), "config", "prometheus", file))
	require.NoError(t, err)
	return text
}

// metricsOf parses a PromQL expression and lists the metrics that it selects. Grafana fills in its variables before
// Prometheus sees them.
func metricsOf(t *testing.T, expression string) []string {
	t.Helper()
	filled := strings.NewReplacer("$__rate_interval", "5m", "$namespace", "gpu-provisioner-system").Replace(expression)
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(filled)
	require.NoError(t, err, expression)
	var out []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			out = append(out, selector.Name)
		}
		return nil
	})
	require.NotEmpty(t, out, expression)
	return out
}

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func TestAlertsUseExistingMetricsAndLinkTheirRunbook(t *testing.T) {
	live(t)
	alertsAreOf(t, stack.GPUProvisioner, names(scrape(t)))
}

// alertsAreOf checks an operator's alerts against the metrics that it serves.
func alertsAreOf(t *testing.T, o stack.Operator, served map[string]bool) {
	t.Helper()
	text := monitoring(t, o, "rules.yaml")
	var file struct {
		Kind string `json:"kind"`
		Spec struct {
			Groups []struct {
				Rules []rule `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.Equal(t, "PrometheusRule", file.Kind)
	seen := map[string]bool{}
	for _, group := range file.Spec.Groups {
		for _, r := range group.Rules {
			assert.False(t, seen[r.Alert], "%s twice", r.Alert)
			seen[r.Alert] = true
			for _, metric := range metricsOf(t, r.Expr) {
				assert.True(t, served[metric], "%s: no operator serves %s", r.Alert, metric)
			}
			assert.Contains(t, []string{"info", "warning", "critical"}, r.Labels["severity"], r.Alert)
			for _, annotation := range []string{"summary", "description"} {
				assert.NotEmpty(t, r.Annotations[annotation], "%s has no %s", r.Alert, annotation)
			}
			runbook := r.Annotations["runbook_url"]
			assert.True(t, strings.HasPrefix(runbook, "docs/runbooks/"), "%s: %q", r.Alert, runbook)
			assert.FileExists(t, filepath.Join(root, runbook), r.Alert)
		}
	}
	assert.NotEmpty(t, seen)
}

type panel struct {
	Title   string `json:"title"`
	Type    string `json:"type"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

func TestDashboardPanelsUseExistingMetrics(t *testing.T) {
	live(t)
	panelsAreOf(t, stack.GPUProvisioner, ownMetric, names(scrape(t)))
}

// panelsAreOf checks an operator's dashboard against the metrics that it serves; each of its own is on some panel.
func panelsAreOf(t *testing.T, o stack.Operator, own *regexp.Regexp, served map[string]bool) {
	t.Helper()
	text := monitoring(t, o, "dashboard.json")
	var dashboard struct {
		Title  string  `json:"title"`
		Panels []panel `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	shown := map[string]bool{}
	for _, p := range dashboard.Panels {
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			for _, metric := range metricsOf(t, target.Expr) {
				shown[metric] = true
				assert.True(t, served[metric], "%s: no operator serves %s", p.Title, metric)
			}
		}
	}
	for metric := range served {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(metric, "_bucket"), "_count"), "_sum")
		if own.MatchString(metric) {
			assert.True(t, shown[metric] || shown[base+"_bucket"] || shown[base+"_sum"], "no panel shows %s", metric)
		}
	}
}
