// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const enginePage = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="workspace-phi-3"} 3.0
# HELP go_goroutines Not this engine's.
# TYPE go_goroutines gauge
go_goroutines 1
# TYPE kaito_gateway_places gauge
kaito_gateway_places 99
# HELP process_open_fds Number of open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 12.0
# EOF
`

func TestThePageHoldsTheGatewaysMetricsAndTheEngines(t *testing.T) {
	f := start(t, answer(oneChoice))
	f.page = enginePage
	_, _ = f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`)
	_, _ = f.do(t, http.MethodPost, "/chat", `{"promt":"q"}`)
	_, _ = f.do(t, http.MethodGet, "/pause", "")

	res, page := f.do(t, http.MethodGet, "/metrics", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.True(
		t, strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain; version=0.0.4"), res.Header.Get("Content-Type"),
	)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	require.NoError(t, err, "one page that Prometheus can read")
	for _, name := range []string{"vllm:num_requests_running", "process_open_fds", "go_goroutines", "kaito_gateway_places"} {
		require.Contains(t, families, name)
		assert.Len(t, families[name].Metric, 1, name)
	}
	for series, want := range map[string]string{
		`vllm:num_requests_running{engine="0",model_name="workspace-phi-3"}`: "3.0",
		`kaito_gateway_places`:                                          "256",
		`kaito_gateway_engine_up`:                                       "1",
		`kaito_gateway_draining`:                                        "0",
		`kaito_gateway_requests_total{code="200",route="/chat"}`:        "1",
		`kaito_gateway_requests_total{code="400",route="/chat"}`:        "1",
		`kaito_gateway_refusals_total{code="unknown_parameter"}`:        "1",
		`kaito_gateway_refusals_total{code="unknown_url"}`:              "1",
		`kaito_gateway_request_duration_seconds_count{route="/chat"}`:   "2",
		`kaito_gateway_time_to_first_byte_seconds_count{route="/chat"}`: "2",
		`kaito_gateway_queue_wait_seconds_count`:                        "2", // a body is judged once it is admitted
		`kaito_gateway_requests_in_flight`:                              "0",
	} {
		assert.Equal(t, want, f.metric(t, series), series)
	}
}

func TestWithoutTheEnginesPageTheGatewaysIsStillThere(t *testing.T) {
	f := start(t, answer(`{}`))
	f.page = enginePage
	assert.Equal(t, "1", f.metric(t, "kaito_gateway_engine_up"))
	f.page = ""
	res, page := f.do(t, http.MethodGet, "/metrics", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Contains(t, page, "\nkaito_gateway_engine_up 0\n")
	assert.NotContains(t, page, "vllm:")
}

func TestAnEnginePageThatBreaksOffIsLeftOutWhole(t *testing.T) {
	f := start(t, answer(`{}`))
	f.page = strings.Repeat("x 1\n", maxMetricsBytes/4+1)
	_, page := f.do(t, http.MethodGet, "/metrics", "")
	assert.NotContains(t, page, "x 1\n")
	assert.Contains(t, page, "\nkaito_gateway_engine_up 0\n")
}

func TestClientsCannotMakeLabels(t *testing.T) {
	f := start(t, answer(`{}`))
	for _, path := range []string{"/a", "/v1/b", "/v1/responses/resp_one", "/v1/responses/resp_two"} {
		_, _ = f.do(t, http.MethodGet, path, "")
	}
	_, page := f.do(t, http.MethodGet, "/metrics", "")
	assert.NotContains(t, page, "/v1/b")
	assert.Equal(t, "2", f.metric(t, `kaito_gateway_requests_total{code="200",route="/v1/responses/{id}"}`))
}

func TestLogsHoldNeitherPromptsNorKeys(t *testing.T) {
	secret := newMountedSecret(t, "the-secret-key\n")
	f := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":{"message":"failed on: my private question"}}`)
	}, func(c *Config) { c.APIKeyFile = secret.path() })
	for _, call := range []struct{ method, path, body string }{
		{http.MethodPost, "/chat", `{"prompt":"my private question"}`},
		{http.MethodPost, "/chat", `{"my private question":1}`},
		{http.MethodPost, "/v1/completions?api_key=the-secret-key", `{"prompt":"my private question"}`},
		{http.MethodGet, "/my private question", ``},
	} {
		_, _ = f.do(
			t, call.method, strings.ReplaceAll(call.path, " ", "%20"), call.body, "Authorization", "Bearer the-secret-key",
		)
		_, _ = f.do(
			t, call.method, strings.ReplaceAll(call.path, " ", "%20"), call.body, "Authorization", "Bearer the-wrong-key",
		)
	}
	logs := f.logs.String()
	assert.Contains(t, logs, `"route":"/v1/completions","status":500`, "requests are logged at all")
	assert.NotContains(t, logs, "private")
	assert.NotContains(t, logs, "the-secret-key")
	assert.NotContains(t, logs, "the-wrong-key")
}
