// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// events reads a stream to its end and returns the data of its events.
func events(t *testing.T, body io.Reader) []string {
	t.Helper()
	var all []string
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			all = append(all, data)
		} else {
			assert.Empty(t, lines.Text(), "events are apart by an empty line")
		}
	}
	require.NoError(t, lines.Err())
	return all
}

func TestAStreamSaysTheSameInPieces(t *testing.T) {
	s := start(t, Options{})
	for name, path := range map[string]string{"chat": "/v1/chat/completions", "completion": "/v1/completions"} {
		t.Run(name, func(t *testing.T) {
			res := s.open(
				t,
				t.Context(),
				http.MethodPost,
				path,
				`{"messages":[{"role":"user","content":"why not?"}],"prompt":"why not?","stream":true,"stream_options":{"include_usage":true}}`,
			)
			defer func() { _ = res.Body.Close() }()
			assert.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
			all := events(t, res.Body)
			require.Equal(t, "[DONE]", all[len(all)-1])
			var text, finish string
			var last completion
			for i, data := range all[:len(all)-1] {
				last = completion{}
				require.NoError(t, json.Unmarshal([]byte(data), &last))
				if len(last.Choices) == 0 {
					continue
				}
				c := last.Choices[0]
				if name == "chat" {
					assert.Equal(t, "chat.completion.chunk", last.Object)
					text += c.Delta.Content
					assert.Equal(t, i == 0, c.Delta.Role == "assistant", "the first event, and no other, names the role")
				} else {
					assert.Equal(t, "text_completion", last.Object)
					text += *c.Text
				}
				if c.FinishReason != nil {
					finish = *c.FinishReason
				}
			}
			assert.Equal(t, "[phi-3] You asked: why not?", text)
			assert.Equal(t, "stop", finish)
			assert.Equal(t, &usage{PromptTokens: 2, CompletionTokens: 5, TotalTokens: 7}, last.Usage)
			assert.Empty(t, last.Choices, "the usage comes last and alone")
		})
	}
}

func TestTokensComeOnTheClock(t *testing.T) {
	s := start(t, Options{FirstToken: time.Second, EachToken: 100 * time.Millisecond})
	got := make(chan string)
	go func() {
		defer close(got)
		res, err := s.server.Client().
			Post(s.server.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a","stream":true,"max_tokens":2}`))
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: {"); ok {
				got <- data
			}
		}
	}()
	for _, pause := range []time.Duration{time.Second, 100 * time.Millisecond} {
		until(t, "the engine waits for the token's time", s.clock.HasWaiters)
		s.clock.Step(pause - 1)
		select {
		case early := <-got:
			t.Fatalf("a token came before its time: %s", early)
		default:
		}
		s.clock.Step(1)
		<-got
	}
	<-got // the event with the reason for the end needs no time
	_, more := <-got
	assert.False(t, more)
	assert.InDelta(t, 1.0, s.metricSum(t, "vllm:time_to_first_token_seconds"), 1e-6)
	assert.InDelta(t, 0.1, s.metricSum(t, "vllm:inter_token_latency_seconds"), 1e-6)
	assert.InDelta(t, 1.1, s.metricSum(t, "vllm:e2e_request_latency_seconds"), 1e-6)
}
