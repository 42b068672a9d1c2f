// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// NewTracerProvider returns a provider that sends spans to the endpoint of OpenTelemetry's environment variables
// (OTEL_EXPORTER_OTLP_ENDPOINT and others, read by the exporter), or nil without an endpoint. The caller must shut it
// down, which sends the remaining spans.
func NewTracerProvider(ctx context.Context, getenv func(string) string) (*sdktrace.TracerProvider, error) {
	if getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("exporting spans: %w", err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter)}
	if getenv("OTEL_SERVICE_NAME") == "" && getenv("OTEL_RESOURCE_ATTRIBUTES") == "" {
		options = append(
			options, sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "kaito-gateway"))),
		)
	}
	return sdktrace.NewTracerProvider(options...), nil
}

// trace adds a server span for each inference request and a client span for its call of the engine.
func (g *Gateway) trace(tp trace.TracerProvider) {
	propagator := propagation.TraceContext{}
	g.inference = otelhttp.NewHandler(g.inference, "gateway",
		otelhttp.WithTracerProvider(tp),
		otelhttp.WithPropagators(propagator),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.Pattern }),
	)
	g.transport = &tracedTransport{
		next:       g.transport,
		tracer:     tp.Tracer("kaito.sh/workspace-operator/internal/gateway"),
		propagator: propagator,
	}
}

// tracedTransport creates a client span for each engine call of a client. It replaces otelhttp's transport, whose spans
// have the complete URL: a query can contain a key. Probes and scrapes have no spans.
type tracedTransport struct {
	next       http.RoundTripper
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

func (t *tracedTransport) RoundTrip(call *http.Request) (*http.Response, error) {
	if exchangeOf(call.Context()) == nil {
		return t.next.RoundTrip(call)
	}
	ctx, span := t.tracer.Start(
		call.Context(),
		call.Method+" "+exchangeOf(call.Context()).route.pattern,
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("http.request.method", call.Method), attribute.String("server.address", call.URL.Host),
		),
	)
	call = call.Clone(ctx)
	t.propagator.Inject(ctx, propagation.HeaderCarrier(call.Header))
	res, err := t.next.RoundTrip(call)
	if err != nil {
		span.SetStatus(codes.Error, "the engine did not answer")
		span.End()
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
	res.Body = &spanBody{ReadCloser: res.Body, span: span}
	return res, nil
}

// spanBody ends a span with the answer's body.
type spanBody struct {
	io.ReadCloser
	span trace.Span
}

func (b *spanBody) Close() error {
	defer b.span.End()
	return b.ReadCloser.Close()
}
