// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

func TestOnlyInferenceCanBeReached(t *testing.T) {
	blocked := []string{
		// vLLM's routes besides inference, from 0.10 to 0.32: of its API server, of SageMaker's mode, of its development
		// mode.
		"/load",
		"/tokenize",
		"/detokenize",
		"/tokenizer_info",
		"/invocations",
		"/server_info",
		"/metrics/",
		"/kv_event_sources",
		"/pooling",
		"/classify",
		"/score",
		"/rerank",
		"/v2/rerank",
		"/v2/embed",
		"/generative_scoring",
		"/v1/systemone",
		"/v1/realtime",
		"/inference/v1/generate",
		"/inference/v1/abort_requests",
		"/v1/chat/completions/batch",
		"/v1/chat/completions/render",
		"/v1/chat/completions/derender",
		"/v1/completions/render",
		"/v1/completions/derender",
		"/v1/messages/render",
		"/v1/responses/render",
		"/v1/load_lora_adapter",
		"/v1/unload_lora_adapter",
		"/v1/files",
		"/v1/batches",
		"/pause",
		"/resume",
		"/is_paused",
		"/sleep",
		"/wake_up",
		"/is_sleeping",
		"/reset_prefix_cache",
		"/reset_mm_cache",
		"/reset_encoder_cache",
		"/collective_rpc",
		"/update_weights",
		"/init_weights_update_group",
		"/init_weight_transfer_engine",
		"/get_world_size",
		"/start_profile",
		"/stop_profile",
		"/scale_elastic_ep",
		"/is_scaling_elastic_ep",
		"/abort_requests",
		"/docs",
		"/docs/oauth2-redirect",
		"/redoc",
		"/openapi.json",
		// Ways to write an allowed path that is another one.
		"/",
		"//",
		"//v1/models",
		"/v1/models/",
		"/v1//models",
		"/v1/./models",
		"/./v1/models",
		"/v1/../pause",
		"/v1/%2e%2e/pause",
		"/v1/%2E%2E/pause",
		"/v1/..%2fpause",
		"/v1/%252e%252e/pause",
		"/v1/models/../../pause",
		"/v1/chat/completions/../../../pause",
		"/v1/models/%2e%2e/%2e%2e/pause",
		"/v1/models/..;/pause",
		"/v1\\..\\pause",
		"/V1/models",
		"/v1/Models",
		"/v1/models%20",
		"/v1/models%00",
		"/v1/models%00/pause",
		"/v1/models%0d%0aX: y",
		"/v1/models;/pause",
		"/v1/models%3f",
		"/v1/models%23",
		"/%76%31/load_lora_adapter",
		"/v1/load%5flora_adapter",
		"/v1/responses/a%2fb",
		"/v1/responses/..",
		"/v1/responses/../models",
		"/v1/responses/%2e%2e/load_lora_adapter",
		"/v1/responses/",
		"/v1/responses//cancel",
		"/v1/responses/a/cancel/b",
		"/chat/",
		"/chat/../pause",
		"/healthz/",
		"/healthz/../pause",
		"/readyz/x",
		"/v1",
		"/v1/",
		// The gateway's own, which are on the status port.
		"/healthz",
		"/readyz",
		"/metrics",
		"/drained",
	}
	f := start(t, answer(`{}`))
	for _, path := range blocked {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "REPORT"} {
			answers := f.raw(
				t,
				fmt.Sprintf(
					"%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", method,
					strings.ReplaceAll(path, " ", "%20"),
				),
			)
			require.Len(t, answers, 1, path)
			require.Equal(t, http.StatusNotFound, answers[0].StatusCode, "%s %s", method, path)
			requireError(t, answers[0], answers[0].body, http.StatusNotFound, "unknown_url")
		}
	}
	assert.Empty(t, f.requests())
}

func TestNoHeaderLeadsElsewhere(t *testing.T) {
	f := start(t, answer(`{}`))
	for _, header := range []string{
		"Host: 127.0.0.1:8000", "Host: x\r\nX-Original-URL: /pause", "Host: x\r\nX-Rewrite-URL: /pause", "Host: x\r\nX-Forwarded-Path: /pause", "Host: x\r\nX-Forwarded-Prefix: /pause",
		"Host: x\r\nX-Forwarded-Host: elsewhere", "Host: x\r\nForwarded: host=elsewhere", "Host: x\r\nX-HTTP-Method-Override: DELETE", "Host: x\r\nConnection: Host", "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade",
		"Host: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "Host: x\r\nDestination: /pause",
	} {
		before := len(f.requests())
		answers := f.raw(
			t, "GET /v1/models HTTP/1.1\r\n"+header+"\r\n\r\n"+"GET /pause HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		)
		require.Len(t, answers, 2, header)
		assert.Equal(t, http.StatusOK, answers[0].StatusCode, header)
		assert.Equal(t, http.StatusNotFound, answers[1].StatusCode, "a connection stays HTTP: %s", header)
		require.Len(t, f.requests(), before+1, header)
		at := f.requests()[before]
		assert.Equal(t, "/v1/models", at.target, header)
		assert.Equal(t, http.MethodGet, at.method, header)
		assert.Equal(t, f.engine.Host, at.host, header)
	}
}

func TestNoRequestLineLeadsElsewhere(t *testing.T) {
	f := start(t, answer(`{}`))
	for _, request := range []string{
		"CONNECT 127.0.0.1:8000 HTTP/1.1\r\nHost: 127.0.0.1:8000", "CONNECT /v1/models HTTP/1.1\r\nHost: x", "GET * HTTP/1.1\r\nHost: x", "OPTIONS * HTTP/1.1\r\nHost: x", "PRI * HTTP/2.0\r\n",
		"GET http://127.0.0.1:8000/pause HTTP/1.1\r\nHost: x", "GET /v1/models HTTP/1.1", "GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y", "GET /v1/models HTTP/1.1\r\nHost: x/pause", "TRACE /v1/models HTTP/1.1\r\nHost: x",
		"GET pause HTTP/1.1\r\nHost: x", "GET \\pause HTTP/1.1\r\nHost: x", "GET http:pause HTTP/1.1\r\nHost: x", "GET //127.0.0.1/pause HTTP/1.1\r\nHost: x", "GET /v1/models\t/pause HTTP/1.1\r\nHost: x",
	} {
		for _, got := range f.raw(t, request+"\r\nConnection: close\r\n\r\n") {
			assert.True(t, got.StatusCode >= 400 || len(got.body) == 0, "%s: %d", request, got.StatusCode)
		}
		assert.Empty(t, f.requests(), request)
	}
}

func TestEachRouteAcceptsOnlyItsOwnPathAndMethod(t *testing.T) {
	f := start(t, answer(oneChoice))
	for _, rt := range routes {
		path := strings.ReplaceAll(rt.pattern, "{id}", "resp_0af-1")
		before := len(f.requests())
		res, body := f.do(t, rt.method, path, `{"prompt":"q"}`)
		require.Equal(t, http.StatusOK, res.StatusCode, "%s %s: %s", rt.method, path, body)
		require.Len(t, f.requests(), before+1)
		if !rt.chat {
			assert.Equal(t, path, f.requests()[before].path)
			assert.Equal(t, rt.method, f.requests()[before].method)
		}
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			if method == rt.method {
				continue
			}
			res, body := f.do(t, method, path, "")
			requireError(t, res, body, http.StatusMethodNotAllowed, "method_not_allowed")
			assert.Equal(t, rt.method, res.Header.Get("Allow"))
		}
		assert.Len(t, f.requests(), before+1, "a refused method does not reach the engine")
	}
}

func TestAnEncodedPathReachesTheEngineDecoded(t *testing.T) {
	f := start(t, answer(`{}`))
	_, _ = f.do(t, http.MethodPost, "/v1/chat%2Fcompletions", `{}`)
	require.Len(t, f.requests(), 1)
	assert.Equal(t, "/v1/chat/completions", f.requests()[0].target)
}

// raw sends bytes over one connection and returns every answer until the gateway closes it.
func (f *fixture) raw(t *testing.T, request string) []reply {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(eventually.Short)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	var answers []reply
	reader := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			return answers
		}
		answered, body := readReply(t, res)
		answered.body = body
		answers = append(answers, answered)
		if answered.Close {
			return answers
		}
	}
}

func TestNothingIsSmuggledToTheEngine(t *testing.T) {
	for name, request := range map[string]string{
		"a body with two lengths": "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2\r\n{}\r\n0\r\n\r\nGET /pause HTTP/1.1\r\nHost: x\r\n\r\n",
		"two different lengths":      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}POST /pause HTTP/1.1\r\nHost: x\r\n\r\n",
		"a second encoding":          "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\nPOST /pause HTTP/1.1\r\nHost: x\r\n\r\n",
		"a line break in a header":   "POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-A: b\rPOST /pause HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"a space before the colon":   "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}",
		"a target of another server": "GET http://127.0.0.1:1/pause HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"a tunnel":                   "CONNECT 127.0.0.1:8000 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, answer(`{}`))
			answers := f.raw(t, request)
			require.NotEmpty(t, answers)
			for _, at := range f.requests() {
				assert.Equal(t, "/v1/completions", at.path)
				assert.Equal(t, "{}", at.body)
			}
			assert.LessOrEqual(t, len(f.requests()), 1)
		})
	}
}

func TestAbsoluteTargetOfAnotherHostReachesTheEngine(t *testing.T) {
	f := start(t, answer(`{}`))
	answers := f.raw(t, "GET http://127.0.0.1:1/v1/models HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n")
	require.Len(t, answers, 1)
	assert.Equal(t, http.StatusOK, answers[0].StatusCode)
	require.Len(t, f.requests(), 1)
	assert.Equal(t, f.engine.Host, f.requests()[0].host)
}

func TestHopByHopHeadersEndAtTheGateway(t *testing.T) {
	f := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "X-Inner")
		w.Header().Set("X-Inner", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		_, _ = io.WriteString(w, `{}`)
	})
	answers := f.raw(
		t,
		"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: X-Hop, Upgrade, HTTP2-Settings, close\r\nX-Hop: 1\r\nUpgrade: h2c\r\n"+
			"HTTP2-Settings: AAMAAABkAAQAAP__\r\nKeep-Alive: 1\r\nTE: trailers, deflate\r\nProxy-Authorization: Basic eA==\r\nContent-Length: 2\r\n\r\n{}",
	)
	require.Len(t, answers, 1)
	assert.Equal(t, http.StatusOK, answers[0].StatusCode)
	assert.Empty(t, answers[0].Header.Get("X-Inner"))
	assert.Empty(t, answers[0].Header.Get("Keep-Alive"))
	require.Len(t, f.requests(), 1)
	for _, name := range []string{"X-Hop", "Upgrade", "Http2-Settings", "Keep-Alive", "Proxy-Authorization", "Connection"} {
		assert.Empty(t, f.requests()[0].header.Values(name), name)
	}
}

func TestAnEngineThatSwitchesProtocolsIsABadGateway(t *testing.T) {
	f := start(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = conn.Close()
	})
	res, body := f.do(t, http.MethodPost, "/v1/completions", `{}`)
	requireError(t, res, body, http.StatusBadGateway, "engine_error")
}

func TestTheStatusPortReachesNoModel(t *testing.T) {
	f := start(t, answer(oneChoice))
	f.url = f.status
	for _, rt := range routes {
		res, body := f.do(t, rt.method, strings.ReplaceAll(rt.pattern, "{id}", "resp_1"), `{"prompt":"q"}`)
		requireError(t, res, body, http.StatusNotFound, "unknown_url")
	}
	assert.Empty(t, f.requests())
}
