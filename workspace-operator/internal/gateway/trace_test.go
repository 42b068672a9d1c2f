// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
)

func TestSpansReachFromTheClientToTheEngine(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	var atEngine []string
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			healthy(listed)(w, r)
			return
		}
		atEngine = append(atEngine, r.Header.Get("Traceparent"))
		_, _ = io.WriteString(w, oneChoice)
	}))
	defer engine.Close()
	cfg := DefaultConfig()
	cfg.Engine, cfg.Model = engine.URL, servedModel
	g, err := New(cfg, Options{TracerProvider: provider, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer g.Close()
	server, pages := httptest.NewServer(g), httptest.NewServer(g.Status())
	defer server.Close()
	defer pages.Close()

	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, path := range []string{"/chat", "/v1/chat/completions?key=secret", "/readyz"} {
		method, url := http.MethodPost, server.URL
		if path == "/readyz" {
			method, url = http.MethodGet, pages.URL
		}
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(`{"prompt":"private"}`))
		require.NoError(t, err)
		req.Header.Set("Traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
		req.Header.Set("Authorization", "Bearer secret")
		res, err := server.Client().Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		_, _ = io.Copy(io.Discard, res.Body)
		require.NoError(t, res.Body.Close())
	}
	until(
		t, "two requests have a span of the server and one of the call; probes have none",
		func() bool { return len(exporter.GetSpans()) == 4 },
	)
	names := map[string]int{}
	for _, span := range exporter.GetSpans() {
		assert.Equal(t, parent, span.SpanContext.TraceID().String())
		for _, attribute := range span.Attributes {
			assert.NotContains(t, attribute.Value.String(), "private")
			assert.NotContains(t, attribute.Value.String(), "secret", attribute.Key)
		}
		if span.SpanKind == oteltrace.SpanKindServer {
			names[span.Name]++
		}
	}
	assert.Equal(t, map[string]int{"POST /chat": 1, "POST /v1/chat/completions": 1}, names)
	require.Len(t, atEngine, 2)
	for _, header := range atEngine {
		assert.Contains(t, header, parent)
		assert.NotContains(t, header, "00f067aa0ba902b7", "the engine's parent is the gateway's span")
	}
}

func TestWithoutAnEndpointThereIsNoTracing(t *testing.T) {
	provider, err := NewTracerProvider(t.Context(), func(string) string { return "" })
	require.NoError(t, err)
	assert.Nil(t, provider)
}

func TestWithAnEndpointSpansAreSentThere(t *testing.T) {
	got := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Method + " " + r.URL.Path
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	provider, err := NewTracerProvider(t.Context(), func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[name]
	})
	require.NoError(t, err)
	require.NotNil(t, provider)
	_, span := provider.Tracer("test").Start(t.Context(), "a")
	span.End()
	require.NoError(t, provider.Shutdown(t.Context()), "shutting down sends what is left")
	assert.Equal(t, "POST /v1/traces", <-got)
}
