// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ask = `{"prompt":"why?"}`

func (s *simulated) says(t *testing.T, model string) string {
	t.Helper()
	status, got := call[completion](t, s, http.MethodPost, "/v1/completions", `{"model":"`+model+`","prompt":"why?"}`)
	require.Equal(t, http.StatusOK, status)
	return *got.Choices[0].Text
}

func TestAdaptersAreLoadedAndUnloaded(t *testing.T) {
	s := start(t, Options{EnableLoRA: true, RuntimeLoRA: true})
	first, firstDigest := adapterFolder(t, "first")
	second, secondDigest := adapterFolder(t, "second")
	load := func(body string) (int, string) { return s.text(t, http.MethodPost, "/v1/load_lora_adapter", body) }

	status, body := load(`{"lora_name":"dolly","lora_path":"` + first + `"}`)
	require.Equal(t, http.StatusOK, status, body)
	assert.Equal(t, "Success: LoRA adapter 'dolly' added successfully.", body)
	assert.Equal(t, "[phi-3 + adapter "+firstDigest+"] You asked: why?", s.says(t, "dolly"))
	_, models := call[struct{ Data []modelCard }](t, s, http.MethodGet, "/v1/models", "")
	require.Len(t, models.Data, 3)
	assert.Equal(t, "dolly", models.Data[2].ID)
	assert.Equal(t, first, models.Data[2].Root)
	assert.Equal(t, "phi-3", *models.Data[2].Parent)

	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"the name is taken": {`{"lora_name":"dolly","lora_path":"` + second + `"}`, 400},
		"no path":           {`{"lora_name":"dolly"}`, 400},
		"no weights":        {`{"lora_name":"empty","lora_path":"` + t.TempDir() + `"}`, 404},
	} {
		status, body := load(tc.body)
		assert.Equal(t, tc.status, status, "%s: %s", name, body)
	}
	status, _ = load(`{"lora_name":"dolly","load_inplace":true,"lora_path":"` + second + `"}`)
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, "[phi-3 + adapter "+secondDigest+"] You asked: why?", s.says(t, "dolly"))

	status, _ = s.text(t, http.MethodPost, "/v1/unload_lora_adapter", `{"lora_name":"dolly"}`)
	require.Equal(t, http.StatusOK, status)
	status, _ = s.text(t, http.MethodPost, "/v1/completions", `{"model":"dolly","prompt":"why?"}`)
	assert.Equal(t, http.StatusNotFound, status)
	status, _ = s.text(t, http.MethodPost, "/v1/unload_lora_adapter", `{"lora_name":"dolly"}`)
	assert.Equal(t, http.StatusNotFound, status)
}

func TestAdministrationHasAnEffectAndIsNoted(t *testing.T) {
	s := start(t, Options{DevMode: true})
	assert.Empty(t, s.AdminCalls())
	_, _ = s.text(t, http.MethodPost, "/update_weights", `{"update_info":{}}`)
	assert.Equal(t, "[phi-3 with weights 1] You asked: why?", s.says(t, "phi-3"))

	_, _ = s.text(t, http.MethodPost, "/sleep", "")
	_, state := call[map[string]bool](t, s, http.MethodGet, "/is_sleeping", "")
	assert.True(t, state["is_sleeping"])
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		res, err := s.server.Client().Post(s.server.URL+"/v1/completions", "application/json", strings.NewReader(ask))
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	until(t, "it runs", func() bool { return s.meters.load.Load() == 1 })
	select {
	case <-answered:
		t.Fatal("a sleeping engine answers")
	default:
	}
	_, _ = s.text(t, http.MethodPost, "/wake_up", "")
	<-answered

	_, _ = s.text(t, http.MethodPost, "/pause", "")
	_, state = call[map[string]bool](t, s, http.MethodGet, "/is_paused", "")
	assert.True(t, state["is_paused"])
	_, _ = s.text(t, http.MethodPost, "/resume", "")
	_, got := call[completion](t, s, http.MethodPost, "/invocations", `{"messages":[{"role":"user","content":"why?"}]}`)
	assert.Equal(t, "[phi-3 with weights 1] You asked: why?", got.Choices[0].Message.Content)
	status, _ := s.text(t, http.MethodPost, "/invocations", `{}`)
	assert.Equal(t, http.StatusBadRequest, status)
	_, tokens := call[map[string]any](t, s, http.MethodPost, "/tokenize", `{"prompt":"one two"}`)
	assert.EqualValues(t, 2, tokens["count"])
	_, _ = s.text(t, http.MethodPost, "/collective_rpc", `{"method":"x"}`)
	assert.Equal(t, []string{
		"POST /update_weights",
		"POST /sleep",
		"GET /is_sleeping",
		"POST /wake_up",
		"POST /pause",
		"GET /is_paused",
		"POST /resume",
		"POST /invocations",
		"POST /invocations",
		"POST /tokenize",
		"POST /collective_rpc",
	}, s.AdminCalls())
}

func TestDoorsThatVLLMOpensOnDemandAreShut(t *testing.T) {
	s := start(t, Options{EnableLoRA: true})
	for _, path := range []string{"/pause", "/update_weights", "/collective_rpc", "/sleep", "/v1/load_lora_adapter"} {
		status, _ := s.text(t, http.MethodPost, path, `{}`)
		assert.Equal(t, http.StatusNotFound, status, path)
	}
}
