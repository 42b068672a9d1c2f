// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheAnswerTellsWhoAnsweredWhat(t *testing.T) {
	folder, digest := adapterFolder(t, "weights of dolly")
	s := start(
		t,
		Options{EnableLoRA: true, Adapters: []Adapter{{Name: "dolly", Path: folder}, {Name: "other", Digest: "sha256:00"}}},
	)
	for name, tc := range map[string]struct{ path, body, model, want string }{
		"the model":                         {"/v1/chat/completions", `{"model":"phi-3","messages":[{"role":"user","content":"why?"}]}`, "phi-3", "[phi-3] You asked: why?"},
		"the model by another of its names": {"/v1/chat/completions", `{"model":"phi-3-mini-128k-instruct","messages":[{"role":"user","content":"why?"}]}`, "phi-3-mini-128k-instruct", "[phi-3] You asked: why?"},
		"no name":                           {"/v1/chat/completions", `{"messages":[{"role":"user","content":"why?"}]}`, "phi-3", "[phi-3] You asked: why?"},
		"an adapter":                        {"/v1/chat/completions", `{"model":"dolly","messages":[{"role":"system","content":"x"},{"role":"user","content":"why?"}]}`, "dolly", "[phi-3 + adapter " + digest + "] You asked: why?"},
		"another adapter":                   {"/v1/completions", `{"model":"other","prompt":"why?"}`, "other", "[phi-3 + adapter sha256:00] You asked: why?"},
		"the last question, of its parts":   {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}`, "phi-3", "[phi-3] You asked: c d"},
		"a prompt, echoed":                  {"/v1/completions", `{"prompt":"why?","echo":true}`, "phi-3", "why?[phi-3] You asked: why?"},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := call[completion](t, s, http.MethodPost, tc.path, tc.body)
			require.Equal(t, http.StatusOK, status)
			require.Len(t, got.Choices, 1)
			c := got.Choices[0]
			if c.Message != nil {
				assert.Equal(t, "assistant", c.Message.Role)
				assert.Equal(t, tc.want, c.Message.Content)
				assert.Equal(t, "chat.completion", got.Object)
			} else {
				assert.Equal(t, tc.want, *c.Text)
				assert.Equal(t, "text_completion", got.Object)
			}
			assert.Equal(t, tc.model, got.Model)
			assert.Equal(t, "stop", *c.FinishReason)
			assert.Equal(t, epoch.Unix(), got.Created)
		})
	}
}

func TestUsageAndLengthCountWords(t *testing.T) {
	s := start(t, Options{MaxModelLen: 20})
	body := `{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"one two three"}],"max_tokens":4,"n":2}`
	_, got := call[completion](t, s, http.MethodPost, "/v1/chat/completions", body)
	require.Len(t, got.Choices, 2)
	assert.Equal(t, "[phi-3] You asked: one", got.Choices[1].Message.Content)
	assert.Equal(t, "length", *got.Choices[1].FinishReason)
	assert.Equal(t, &usage{PromptTokens: 5, CompletionTokens: 8, TotalTokens: 13}, got.Usage)

	_, got = call[completion](t, s, http.MethodPost, "/v1/completions", `{"prompt":"one two three","stop":[" two"]}`)
	assert.Equal(t, "[phi-3] You asked: one", *got.Choices[0].Text)
	assert.Equal(t, "stop", *got.Choices[0].FinishReason)
}

func TestTextIsTheSumOfItsTokens(t *testing.T) {
	for _, text := range []string{"", " ", "a", "a b", "  a  b ", "å ø"} {
		assert.Equal(t, text, strings.Join(tokenize(text), ""))
	}
	assert.Len(t, tokenize("a b c"), 3)
	assert.Empty(t, tokenize(""))
}

func TestRefusalsHaveVLLMsShape(t *testing.T) {
	s := start(t, Options{MaxModelLen: 5})
	for name, tc := range map[string]struct {
		path, body string
		status     int
		kind       string
		param      string
	}{
		"an unknown model":         {"/v1/chat/completions", `{"model":"gpt-4","messages":[{"role":"user","content":"a"}]}`, 404, "NotFoundError", "model"},
		"no messages":              {"/v1/chat/completions", `{"model":"phi-3"}`, 400, "BadRequestError", "messages"},
		"content of another kind":  {"/v1/chat/completions", `{"messages":[{"role":"user","content":3}]}`, 400, "BadRequestError", "messages.0"},
		"too long a prompt":        {"/v1/completions", `{"prompt":"a b c d e"}`, 400, "BadRequestError", "max_tokens"},
		"no room for the answer":   {"/v1/completions", `{"prompt":"a b","max_tokens":4}`, 400, "BadRequestError", "max_tokens"},
		"an answer of nothing":     {"/v1/completions", `{"prompt":"a","max_tokens":0}`, 400, "BadRequestError", "max_tokens"},
		"a temperature below zero": {"/v1/completions", `{"prompt":"a","temperature":-1}`, 400, "BadRequestError", "temperature"},
		"a prompt of numbers":      {"/v1/completions", `{"prompt":[1,2]}`, 400, "BadRequestError", "prompt"},
		"no JSON":                  {"/v1/completions", `prompt`, 400, "BadRequestError", ""},
		"no choice":                {"/v1/completions", `{"prompt":"a","n":0}`, 400, "BadRequestError", "n"},
		"an unknown path":          {"/v1/engines", `{}`, 404, "NotFoundError", ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := call[errorBody](t, s, http.MethodPost, tc.path, tc.body)
			assert.Equal(t, tc.status, status)
			assert.Equal(t, tc.status, got.Error.Code, "vLLM's code is the status")
			assert.Equal(t, tc.kind, got.Error.Type)
			assert.NotEmpty(t, got.Error.Message)
			if tc.param == "" {
				assert.Nil(t, got.Error.Param)
			} else if assert.NotNil(t, got.Error.Param) {
				assert.Equal(t, tc.param, *got.Error.Param)
			}
		})
	}
	res, err := s.server.Client().Post(s.server.URL+"/v1/completions", "text/plain", strings.NewReader(`{"prompt":"a"}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusUnsupportedMediaType, res.StatusCode)
}

func TestLoadingTakesItsTime(t *testing.T) {
	s := start(t, Options{LoadTime: time.Minute})
	for _, path := range []string{"/health", "/v1/models", "/metrics"} {
		status, _ := s.text(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusServiceUnavailable, status, path)
	}
	s.clock.Step(time.Minute)
	status, body := s.text(t, http.MethodGet, "/health", "")
	assert.Equal(t, http.StatusOK, status)
	assert.Empty(t, body)
	status, models := call[struct{ Data []modelCard }](t, s, http.MethodGet, "/v1/models", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, models.Data, 2)
	assert.Equal(t, "phi-3", models.Data[0].ID)
	assert.Equal(t, epoch.Add(time.Minute).Unix(), models.Data[0].Created)
	assert.Equal(t, defaultMaxModelLen, *models.Data[0].MaxModelLen)
}

func TestFaultsComeAndGo(t *testing.T) {
	s := start(t, Options{Faults: Faults{Unhealthy: true, FailRequests: 1}})
	status, _ := s.text(t, http.MethodGet, "/health", "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	status, failed := call[errorBody](t, s, http.MethodPost, "/v1/completions", `{"prompt":"a"}`)
	assert.Equal(t, http.StatusInternalServerError, status)
	assert.Equal(t, "InternalServerError", failed.Error.Type)
	status, _ = s.text(t, http.MethodPost, "/v1/completions", `{"prompt":"a"}`)
	assert.Equal(t, http.StatusOK, status, "one request was to fail")

	s.SetFaults(Faults{CutAfterTokens: 2})
	status, _ = s.text(t, http.MethodGet, "/health", "")
	assert.Equal(t, http.StatusOK, status)
	res := s.open(t, t.Context(), http.MethodPost, "/v1/completions", `{"prompt":"a","stream":true}`)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, 2, bytes.Count(got, []byte("data: ")))
}

func TestStartServesUntilStop(t *testing.T) {
	e, err := New(Options{ServedNames: []string{"m"}})
	require.NoError(t, err)
	url, err := e.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	_, err = e.Start(t.Context(), "127.0.0.1:0")
	require.ErrorContains(t, err, "already serving")
	res, err := http.Get(url + "/health")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, e.Stop(t.Context()))
	require.NoError(t, e.Stop(t.Context()), "a second stop returns no error")
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.Error(t, err)
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for says, opts := range map[string]Options{
		"ServedNames":     {},
		"EnableLoRA":      {ServedNames: []string{"m"}, Adapters: []Adapter{{Name: "a", Digest: "sha256:0"}}},
		"MaxNumSeqs":      {ServedNames: []string{"m"}, MaxNumSeqs: -1},
		"No adapter":      {ServedNames: []string{"m"}, EnableLoRA: true, Adapters: []Adapter{{Name: "a", Path: t.TempDir()}}},
		"must be provide": {ServedNames: []string{"m"}, EnableLoRA: true, Adapters: []Adapter{{Name: "a"}}},
	} {
		_, err := New(opts)
		assert.ErrorContains(t, err, says)
	}
}

func TestAFolderWithoutAModelIsNotServed(t *testing.T) {
	folder := t.TempDir()
	_, err := New(Options{Model: folder, ServedNames: []string{"own"}})
	require.ErrorContains(t, err, "config.json")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "config.json"), []byte("{}"), 0o600))
	_, err = New(Options{Model: folder, ServedNames: []string{"own"}})
	require.NoError(t, err)
}
