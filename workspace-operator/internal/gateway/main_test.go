// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	testingclock "k8s.io/utils/clock/testing"

	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/printed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const servedModel = "workspace-phi-3"

// epoch is where fake clocks begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// statusPaths are not the clients'. The list is read only.
var statusPaths = []string{"/healthz", "/readyz", "/metrics", "/drained"}

// seen is a request as the engine got it.
type seen struct {
	method, target, path, query, host string
	header                            http.Header
	body                              string
}

// fixture is a gateway over HTTP, in front of an engine that the test writes.
type fixture struct {
	*Gateway
	url    string
	status string // the URL of the pages for the cluster
	client *http.Client
	clock  *testingclock.FakeClock
	logs   *printed.Buffer

	mu   sync.Mutex
	seen []seen
	// page is the engine's /metrics, which is not noted among the requests; without one the engine has none.
	page string
}

// start serves a gateway in front of engine, whose requests are recorded. The clock is stopped; the configuration is
// the default one, changed by the given functions.
func start(t *testing.T, engine http.HandlerFunc, changes ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{clock: testingclock.NewFakeClock(epoch), logs: &printed.Buffer{}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.page == "" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = io.WriteString(w, f.page)
			return
		}
		body, _ := io.ReadAll(r.Body) // a body that breaks off is noted as far as it came
		r.Body = io.NopCloser(bytes.NewReader(body))
		f.mu.Lock()
		f.seen = append(
			f.seen, seen{r.Method, r.RequestURI, r.URL.Path, r.URL.RawQuery, r.Host, r.Header.Clone(), string(body)},
		)
		f.mu.Unlock()
		engine(w, r)
	}))
	t.Cleanup(upstream.Close)
	cfg := DefaultConfig()
	cfg.Engine, cfg.Model = upstream.URL, servedModel
	for _, change := range changes {
		change(&cfg)
	}
	var err error
	f.Gateway, err = New(
		cfg,
		Options{Clock: f.clock, Logger: slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))},
	)
	require.NoError(t, err)
	server := httptest.NewServer(f.Gateway)
	pages := httptest.NewServer(f.Status())
	f.url, f.status, f.client = server.URL, pages.URL, server.Client()
	t.Cleanup(func() {
		f.client.CloseIdleConnections()
		server.Close()
		pages.Close()
		f.Close()
	})
	return f
}

// requests returns what the engine got, in order.
func (f *fixture) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.seen...)
}

// reply is an answer whose body was read to its end.
type reply struct {
	StatusCode int
	Header     http.Header
	Close      bool
	body       string // where the answer was read by raw
}

func readReply(t *testing.T, res *http.Response) (reply, string) {
	t.Helper()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return reply{StatusCode: res.StatusCode, Header: res.Header, Close: res.Close}, string(got)
}

// do sends a request and returns its answer with the whole body.
func (f *fixture) do(t *testing.T, method, path, body string, header ...string) (reply, string) {
	t.Helper()
	res, err := f.client.Do(f.request(t, t.Context(), method, path, body, header...))
	require.NoError(t, err)
	return readReply(t, res)
}

// open sends a request and returns its answer once the headers are there. The caller closes its body.
func (f *fixture) open(t *testing.T, ctx context.Context, method, path, body string, header ...string) *http.Response {
	t.Helper()
	res, err := f.client.Do(f.request(t, ctx, method, path, body, header...))
	require.NoError(t, err)
	return res
}

func (f *fixture) request(
	t *testing.T, ctx context.Context, method, path, body string, header ...string,
) *http.Request {
	t.Helper()
	url := f.url
	if slices.Contains(statusPaths, path) {
		url = f.status
	}
	req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// requireError checks an answer's status and OpenAI's error shape, and returns the error.
func requireError(t *testing.T, res reply, body string, status int, code string) errorDetail {
	t.Helper()
	require.Equal(t, status, res.StatusCode, body)
	assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
	var shape map[string]map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &shape), body)
	require.Contains(t, shape, "error")
	assert.Len(t, shape["error"], 4, "OpenAI's errors have message, type, param and code, the last two even when null")
	var decoded errorBody
	require.NoError(t, json.Unmarshal([]byte(body), &decoded))
	assert.Equal(t, code, decoded.Error.Code, decoded.Error.Message)
	assert.NotEmpty(t, decoded.Error.Message)
	assert.NotEmpty(t, decoded.Error.Type)
	return decoded.Error
}

// metric returns the value of one series of the gateway's page, such as `kaito_gateway_places_taken`.
func (f *fixture) metric(t *testing.T, series string) string {
	t.Helper()
	_, page := f.do(t, http.MethodGet, "/metrics", "")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, eventually.Short, eventually.Tick, what)
}

// answer is an engine that always says the same.
func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

const oneChoice = `{"choices":[{"index":0,"message":{"role":"assistant","content":"Hei!"},"finish_reason":"stop"}]}`
