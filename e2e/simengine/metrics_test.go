// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMetricsFollowTheRequests(t *testing.T) {
	s := start(
		t,
		Options{
			MaxNumSeqs: 1,
			MaxLoras:   4,
			EnableLoRA: true,
			Adapters:   []Adapter{{Name: "dolly", Digest: "sha256:0"}},
			DevMode:    true,
		},
	)
	own := []string{"model_name", "phi-3", "engine", "0"}
	assert.InDelta(
		t, float64(epoch.Unix()),
		s.metric(t, "vllm:lora_requests_info", "max_lora", "4", "running_lora_adapters", "", "waiting_lora_adapters", ""),
		1e-9,
	)

	// Held, so that one request stays running and the other waiting.
	_, _ = s.text(t, http.MethodPost, "/pause", "")
	done := make(chan int, 2)
	send := func(ctx context.Context) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/completions", nil)
		if err != nil {
			done <- 0
			return
		}
		req.Header.Set("Content-Type", "application/json")
		req.Body = io.NopCloser(strings.NewReader(`{"model":"dolly","prompt":"one two","max_tokens":3}`))
		res, err := s.server.Client().Do(req)
		if err != nil {
			done <- 0
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		done <- res.StatusCode
	}
	go send(t.Context())
	until(t, "one runs", func() bool { return s.metric(t, "vllm:num_requests_running", own...) == 1 })
	ctx, leave := context.WithCancel(t.Context())
	go send(ctx)
	until(t, "one waits", func() bool { return s.metric(t, "vllm:num_requests_waiting", own...) == 1 })
	s.clock.Step(time.Second)
	assert.InDelta(
		t, 5.0/kvCacheTokens, s.metric(t, "vllm:kv_cache_usage_perc", own...), 1e-9,
		"two tokens of the prompt and three of the answer",
	)
	assert.Positive(
		t, s.metric(t, "vllm:lora_requests_info", "running_lora_adapters", "dolly", "waiting_lora_adapters", "dolly"),
	)
	_, load := call[map[string]int](t, s, http.MethodGet, "/load", "")
	assert.Equal(t, map[string]int{"server_load": 2}, load)

	leave()
	assert.Equal(t, 0, <-done)
	until(t, "the queue is empty", func() bool { return s.metric(t, "vllm:num_requests_waiting", own...) == 0 })
	_, _ = s.text(t, http.MethodPost, "/resume", "")
	assert.Equal(t, http.StatusOK, <-done)
	until(t, "nothing runs", func() bool { return s.metric(t, "vllm:num_requests_running", own...) == 0 })
	assert.Zero(t, s.metric(t, "vllm:kv_cache_usage_perc", own...))
	assert.InDelta(t, 2.0, s.metric(t, "vllm:prompt_tokens_total", own...), 1e-9)
	assert.InDelta(t, 3.0, s.metric(t, "vllm:generation_tokens_total", own...), 1e-9)
	assert.InDelta(t, 1.0, s.metric(t, "vllm:request_success_total", append(own, "finished_reason", "length")...), 1e-9)
	assert.InDelta(t, 1.0, s.metric(t, "vllm:time_to_first_token_seconds", own...), 1e-9)
	assert.InDelta(t, 2.0, s.metric(t, "vllm:inter_token_latency_seconds", own...), 1e-9)
	assert.InDelta(t, 1.0, s.metric(t, "vllm:e2e_request_latency_seconds", own...), 1e-9)
	require.Positive(t, s.metric(t, "vllm:lora_requests_info", "running_lora_adapters", ""))
}
