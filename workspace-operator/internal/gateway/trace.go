package gateway

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// NewTracerProvider returns a provider that sends spans to where OpenTelemetry's own environment variables say
// (OTEL_EXPORTER_OTLP_ENDPOINT and its kin, read by the exporter), or nil where getenv names no endpoint. The caller
// shuts it down, which sends what is left.
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
		options = append(options, sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "kaito-gateway"))))
	}
	return sdktrace.NewTracerProvider(options...), nil
}
