// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

const (
	chatPath = "/v1/chat/completions"
	// asked is a conversation whose answer is always the same. The model's weights are random, so the answer has no end
	// of its own.
	asked = `"model":"` + model + `","messages":[{"role":"user","content":"the sky"}],"temperature":0,"seed":1,"ignore_eos":true`
	// long takes half a minute to answer.
	long = `{` + asked + `,"max_tokens":4000,"stream":%t}`
)

// allowed are the paths of the engine that clients may reach.
var allowed = map[string]bool{
	"/v1/models":                         true,
	chatPath:                             true,
	"/v1/completions":                    true,
	"/v1/responses":                      true,
	"/v1/responses/{response_id}":        true,
	"/v1/responses/{response_id}/cancel": true,
	"/v1/messages":                       true,
	"/v1/messages/count_tokens":          true,
	"/health":                            true,
	"/ping":                              true,
	"/version":                           true,
}

// TestTheGatewayInFrontOfVLLM is one test, for the engine takes a minute to start.
func TestTheGatewayInFrontOfVLLM(t *testing.T) {
	h := newHouse(t)
	t.Run("readiness", h.readiness)
	t.Run("the same models", h.models)
	t.Run("the same answer", h.sameAnswer)
	t.Run("the same stream", h.sameStream)
	t.Run("chat", h.chat)
	t.Run("the same refusals", h.refusals)
	t.Run("a client that leaves a stream", func(t *testing.T) { h.leave(t, true) })
	t.Run("a client that leaves before the answer", func(t *testing.T) { h.leave(t, false) })
	t.Run("both pages of metrics", h.metrics)
	t.Run("no other path", h.isolation)
}

func (h *fixture) readiness(t *testing.T) {
	until(t, "the gateway is there", eventually.Short, func() bool {
		res, err := http.Get(h.status + "/healthz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	if *running == "" {
		assert.Equal(
			t, http.StatusServiceUnavailable, call(t, http.MethodGet, h.status+"/readyz", "").status, "while the engine loads",
		)
		early := call(t, http.MethodPost, h.gateway+chatPath, `{`+asked+`}`)
		assert.Equal(t, http.StatusServiceUnavailable, early.status)
		assert.Equal(t, "engine_unavailable", field(t, early.body, "error.code"))
	}
	until(
		t, "the engine is ready", loading,
		func() bool { return call(t, http.MethodGet, h.status+"/readyz", "").status == http.StatusOK },
	)
}

func (h *fixture) models(t *testing.T) {
	direct, through := call(t, http.MethodGet, h.engine+"/v1/models", ""), call(
		t, http.MethodGet, h.gateway+"/v1/models", "",
	)
	assert.Equal(t, http.StatusOK, through.status)
	for _, path := range []string{"data.0.id", "data.0.max_model_len", "object"} {
		assert.Equal(t, field(t, direct.body, path), field(t, through.body, path))
	}
	assert.Equal(t, model, field(t, through.body, "data.0.id"))
	assert.Empty(t, through.header.Get("Server"))
}

func (h *fixture) sameAnswer(t *testing.T) {
	body := `{` + asked + `,"max_tokens":24}`
	direct, through := call(t, http.MethodPost, h.engine+chatPath, body), call(
		t, http.MethodPost, h.gateway+chatPath, body,
	)
	require.Equal(t, http.StatusOK, through.status, through.body)
	for _, path := range []string{"choices.0.message.content", "choices.0.finish_reason", "usage", "model"} {
		assert.Equal(t, field(t, direct.body, path), field(t, through.body, path), path)
	}
	assert.NotEmpty(t, field(t, through.body, "choices.0.message.content"))
	assert.Equal(t, json.Number("24"), field(t, through.body, "usage.completion_tokens"))

	body = `{"model":"` + model + `","prompt":"grass is","temperature":0,"max_tokens":8}`
	direct, through = call(t, http.MethodPost, h.engine+"/v1/completions", body), call(
		t, http.MethodPost, h.gateway+"/v1/completions", body,
	)
	require.Equal(t, http.StatusOK, through.status, through.body)
	assert.Equal(t, field(t, direct.body, "choices.0.text"), field(t, through.body, "choices.0.text"))
}

// stream reads an event stream to its end mark and returns what its chunks say together, and how many there were.
func stream(t *testing.T, url, body string) (text string, chunks int) {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, res.Header.Get("Content-Type"), "text/event-stream")
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			require.Empty(t, lines.Text())
			continue
		}
		if data == "[DONE]" {
			return text, chunks
		}
		if said, ok := field(t, data, "choices.0.delta.content").(string); ok && said != "" {
			text += said
			chunks++
		}
	}
	require.Fail(t, "the stream has no end mark")
	return "", 0
}

func (h *fixture) sameStream(t *testing.T) {
	body := `{` + asked + `,"max_tokens":24,"stream":true}`
	direct, _ := stream(t, h.engine+chatPath, body)
	through, chunks := stream(t, h.gateway+chatPath, body)
	assert.Equal(t, direct, through)
	assert.Greater(t, chunks, 5, "token by token")
	whole := call(t, http.MethodPost, h.gateway+chatPath, `{`+asked+`,"max_tokens":24}`)
	assert.Equal(t, field(t, whole.body, "choices.0.message.content"), through)
}

func (h *fixture) chat(t *testing.T) {
	kwargs := `"generate_kwargs":{"max_length":12,"do_sample":false,"seed":1}`
	direct := call(
		t,
		http.MethodPost,
		h.engine+chatPath,
		`{"model":"`+model+`","messages":[{"role":"user","content":"the sky"}],"temperature":0,"seed":1,"max_tokens":12}`,
	)
	for _, question := range []string{`"prompt":"the sky"`, `"messages":[{"role":"user","content":"the sky"}]`} {
		got := call(t, http.MethodPost, h.gateway+"/chat", `{`+question+`,`+kwargs+`}`)
		require.Equal(t, http.StatusOK, got.status, got.body)
		var result map[string]string
		require.NoError(t, json.Unmarshal([]byte(got.body), &result))
		assert.Equal(t, map[string]string{"Result": field(t, direct.body, "choices.0.message.content").(string)}, result)
	}
	plain := call(t, http.MethodPost, h.gateway+"/chat", `{"prompt":"one two"}`)
	assert.Equal(t, http.StatusOK, plain.status, "the quick start's call: "+plain.body)
}

func (h *fixture) refusals(t *testing.T) {
	for _, body := range []string{`{"model":"another","messages":[]}`, `{` + asked + `,"max_tokens":100000}`, `{`, `{` + asked + `,"temperature":-1}`} {
		direct, through := call(t, http.MethodPost, h.engine+chatPath, body), call(
			t, http.MethodPost, h.gateway+chatPath, body,
		)
		assert.GreaterOrEqual(t, through.status, 400)
		assert.Equal(t, direct.status, through.status, body)
		// The engine lists the base model's names where one is unknown, and the gateway all.
		want := strings.Replace(field(t, direct.body, "error.message").(string), "Valid aliases", "Available", 1)
		assert.Equal(t, want, field(t, through.body, "error.message"))
	}
	refused := call(t, http.MethodPost, h.gateway+"/chat", `{"prompt":"q","generate_kwargs":{"max_length":100000}}`)
	assert.Equal(t, http.StatusBadRequest, refused.status)
	assert.NotEmpty(t, field(t, refused.body, "error.message"))
}

const (
	seriesRunning = `vllm:num_requests_running{engine="0",model_name="` + model + `"}`
	seriesLength  = `vllm:request_success_total{engine="0",finished_reason="length",model_name="` + model + `"}`
)

// leave lets a client leave in the middle, and looks whether the engine stops working for it.
func (h *fixture) leave(t *testing.T, streamed bool) {
	finished := h.series(t, seriesLength)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(
		ctx, http.MethodPost, h.gateway+chatPath, strings.NewReader(fmt.Sprintf(long, streamed)),
	)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	gone := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		gone <- err
	}()
	until(t, "the engine works", eventually.Long, func() bool { return h.series(t, seriesRunning) == "1.0" })
	leave()
	require.ErrorIs(t, <-gone, context.Canceled)
	until(t, "the engine stops", eventually.Short, func() bool { return h.series(t, seriesRunning) == "0.0" })
	// Not by its series of aborted requests, which vLLM 0.32 leaves at 0 here.
	assert.Equal(t, finished, h.series(t, seriesLength), "the engine stopped the answer")
}

func (h *fixture) metrics(t *testing.T) {
	assert.Equal(t, "1", h.series(t, "kaito_gateway_engine_up"))
	assert.NotEmpty(t, h.series(t, `kaito_gateway_requests_total{code="200",route="/chat"}`))
	assert.NotEmpty(t, h.series(t, seriesLength))
}

// isolation tries every path and method that the engine itself says it has.
func (h *fixture) isolation(t *testing.T) {
	var api struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(call(t, http.MethodGet, h.engine+"/openapi.json", "").body), &api))
	for _, path := range []string{"/health", "/ping", "/version", "/v1/models"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} { // vLLM has no HEAD
			assert.Equal(t, http.StatusOK, call(t, method, h.gateway+path, "").status, "%s %s", method, path)
		}
	}
	require.Greater(t, len(api.Paths), 30, "in its development mode it has many")
	require.Contains(t, api.Paths, "/collective_rpc")
	tried := 0
	for path, methods := range api.Paths {
		if allowed[path] {
			continue
		}
		for method := range methods {
			got := call(t, strings.ToUpper(method), h.gateway+path, "")
			assert.Equal(t, http.StatusNotFound, got.status, path)
			assert.Equal(t, "unknown_url", field(t, got.body, "error.code"), path)
			tried++
		}
	}
	for _, path := range []string{"/docs", "/redoc", "/openapi.json", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"} { // these are in no list
		assert.Equal(t, http.StatusNotFound, call(t, http.MethodPost, h.gateway+path, "{}").status, path)
		tried++
	}
	assert.Equal(t, http.StatusOK, call(t, http.MethodGet, h.engine+"/health", "").status, "the engine serves on")
	t.Logf("%d paths and methods of the engine tried, none reached", tried)
}
