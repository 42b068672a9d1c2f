// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	testingclock "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// simulated is an engine behind HTTP with a stopped clock.
type simulated struct {
	*Engine
	server *httptest.Server
	clock  *testingclock.FakeClock
}

func start(t *testing.T, opts Options) *simulated {
	t.Helper()
	s := &simulated{clock: testingclock.NewFakeClock(epoch)}
	opts.Clock = s.clock
	if opts.ServedNames == nil {
		opts.ServedNames = []string{"phi-3", "phi-3-mini-128k-instruct"}
	}
	var err error
	s.Engine, err = New(opts)
	require.NoError(t, err)
	s.server = httptest.NewServer(s.Engine)
	t.Cleanup(func() {
		s.server.Client().CloseIdleConnections()
		s.server.Close()
	})
	return s
}

// call sends JSON, or nothing, and decodes the answer into a value of type T.
func call[T any](t *testing.T, s *simulated, method, path, body string) (int, T) {
	t.Helper()
	var answer T
	status, text := s.text(t, method, path, body)
	require.NoError(t, json.Unmarshal([]byte(text), &answer), text)
	return status, answer
}

func (s *simulated) text(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	res := s.open(t, t.Context(), method, path, body)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(got)
}

func (s *simulated) open(t *testing.T, ctx context.Context, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := s.server.Client().Do(req)
	require.NoError(t, err)
	return res
}

// metric returns the value of a series of the engine's page; histograms give their count.
func (s *simulated) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	_, page := s.text(t, http.MethodGet, "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	require.NoError(t, err)
	require.Contains(t, families, name)
	for _, m := range families[name].Metric {
		matches := true
		for i := 0; i < len(labels); i += 2 {
			found := false
			for _, l := range m.Label {
				found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
			}
			matches = matches && found
		}
		switch {
		case !matches:
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	t.Fatalf("no series of %s has the labels %q:\n%s", name, labels, page)
	return 0
}

// metricSum returns the sum of all that a histogram observed.
func (s *simulated) metricSum(t *testing.T, name string) float64 {
	t.Helper()
	_, page := s.text(t, http.MethodGet, "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	require.NoError(t, err)
	require.Contains(t, families, name)
	return families[name].Metric[0].Histogram.GetSampleSum()
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, eventually.Short, eventually.Tick, what)
}

// adapterFolder writes an adapter whose weights are the given text and returns its folder and digest.
func adapterFolder(t *testing.T, weights string) (folder, digest string) {
	t.Helper()
	folder = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, weightsFile), []byte(weights), 0o600))
	sum := sha256.Sum256([]byte(weights))
	return folder, "sha256:" + hex.EncodeToString(sum[:])
}
