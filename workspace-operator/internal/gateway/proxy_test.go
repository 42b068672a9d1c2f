// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

func TestAStreamIsPassedOnChunkByChunk(t *testing.T) {
	read := make(chan struct{})
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select { // the next chunk exists only once the client has this one
			case <-read:
			case <-r.Context().Done():
				return
			}
		}
	})
	res := f.open(t, t.Context(), http.MethodPost, "/v1/chat/completions", `{"stream":true}`)
	defer func() { _ = res.Body.Close() }() // what is left of it is of no interest
	require.Equal(t, http.StatusOK, res.StatusCode)
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("data: %d\n", i), line)
		_, err = lines.ReadString('\n')
		require.NoError(t, err)
		read <- struct{}{}
	}
	_, err := lines.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
}

func TestHeadersOfAStreamArriveBeforeItsFirstToken(t *testing.T) {
	release := make(chan struct{})
	f := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	res := f.open(t, t.Context(), http.MethodPost, "/v1/completions", `{}`)
	defer func() { _ = res.Body.Close() }() // what is left of it is of no interest
	assert.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
}

func TestAClientThatLeavesCancelsTheEnginesWork(t *testing.T) {
	for name, path := range map[string]string{"a stream": "/v1/chat/completions", "an answer in one piece": "/v1/completions", "a chat": "/chat"} {
		t.Run(name, func(t *testing.T) {
			working, stopped := make(chan struct{}), make(chan struct{})
			f := start(t, func(w http.ResponseWriter, r *http.Request) {
				if name == "a stream" {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "data: a\n\n")
					w.(http.Flusher).Flush()
				}
				close(working)
				<-r.Context().Done()
				close(stopped)
			})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if name != "a stream" {
				go func() {
					<-working
					leave()
				}()
			}
			res, err := f.client.Do(f.request(t, ctx, http.MethodPost, path, `{"prompt":"q"}`))
			if err == nil {
				_, err = io.ReadFull(res.Body, make([]byte, 1)) // in the middle of the answer
				require.NoError(t, err)
				leave()
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			require.ErrorIs(t, err, context.Canceled)
			select {
			case <-stopped:
			case <-time.After(eventually.Short):
				t.Fatal("the engine continues without a client")
			}
			until(t, "the place is free again", func() bool { return f.limiter.running.Load() == 0 })
			if name == "a stream" {
				until(t, "the cut is the client's", func() bool {
					return f.metric(t, fmt.Sprintf(`kaito_gateway_answers_cut_total{by="client",route=%q}`, path)) == "1"
				})
			} else {
				until(t, "it counts as the client's leaving", func() bool {
					return f.metric(t, fmt.Sprintf(`kaito_gateway_requests_total{code="499",route=%q}`, path)) == "1"
				})
			}
		})
	}
}

func TestRequestsReachTheEngineAsTheyWereSent(t *testing.T) {
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "uvicorn")
		w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id")) // as vLLM does with --enable-request-id-headers
		w.Header().Set("X-Engine", "yes")
		w.WriteHeader(http.StatusNonAuthoritativeInfo)
		_, _ = io.Copy(w, r.Body)
	})
	body := `{"model":"adapters/dolly-15k","messages":[ ],"logit_bias":{"1":2}}`
	res, got := f.do(
		t, http.MethodPost, "/v1/chat/completions?api-version=1", body, "Content-Type", "application/json", "Accept-Encoding",
		"br", "X-Request-Id", "from-the-client", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"Authorization", "Bearer secret", "Cookie", "a=b", "X-Api-Key", "secret", "X-Data-Parallel-Rank", "3",
		"X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1",
	)
	assert.Equal(t, http.StatusNonAuthoritativeInfo, res.StatusCode)
	assert.Equal(t, body, got, "a LoRA adapter's name and unknown fields are the engine's business")
	assert.Equal(t, "yes", res.Header.Get("X-Engine"))
	assert.Empty(t, res.Header.Get("Server"))
	assert.Equal(t, []string{"from-the-client"}, res.Header.Values("X-Request-Id"))

	require.Len(t, f.requests(), 1)
	at := f.requests()[0]
	assert.Equal(t, "/v1/chat/completions", at.path)
	assert.Equal(t, "api-version=1", at.query)
	assert.Equal(t, f.engine.Host, at.host, "the client's Host is not the engine's")
	assert.Equal(t, "br", at.header.Get("Accept-Encoding"))
	assert.Equal(t, "from-the-client", at.header.Get("X-Request-Id"))
	assert.NotEmpty(t, at.header.Get("Traceparent"))
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "X-Data-Parallel-Rank", "X-Forwarded-For", "Forwarded"} {
		assert.Empty(t, at.header.Values(name), name)
	}
}

func TestARequestIDThatIsNoTokenIsReplaced(t *testing.T) {
	f := start(t, answer(`{}`))
	res, _ := f.do(t, http.MethodGet, "/v1/models", "", "X-Request-Id", `"} forged log line {`)
	assert.True(t, isToken(res.Header.Get("X-Request-Id")))
	assert.Equal(t, res.Header.Get("X-Request-Id"), f.requests()[0].header.Get("X-Request-Id"))
}

func TestAnEngineThatIsNotThereIsUnavailable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := ln.Addr().String()
	require.NoError(t, ln.Close())
	f := start(t, answer(`{}`), func(c *Config) { c.Engine = (&url.URL{Scheme: "http", Host: free}).String() })
	for _, path := range []string{"/v1/completions", "/chat"} {
		res, body := f.do(t, http.MethodPost, path, `{"prompt":"q"}`)
		requireError(t, res, body, http.StatusServiceUnavailable, "engine_unavailable")
		assert.Equal(t, "5", res.Header.Get("Retry-After"))
	}
	assert.Equal(t, "2", f.metric(t, `kaito_gateway_refusals_total{code="engine_unavailable"}`))
}

func TestAnswerCutByTheEngineIsAnErrorForTheClient(t *testing.T) {
	f := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: a\n\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	res := f.open(t, t.Context(), http.MethodPost, "/v1/completions", `{}`)
	defer func() { _ = res.Body.Close() }() // what is left of it is of no interest
	got, err := io.ReadAll(res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, "data: a\n\n", string(got))
	assert.Equal(t, "1", f.metric(t, `kaito_gateway_answers_cut_total{by="engine",route="/v1/completions"}`))
	assert.Contains(t, f.logs.String(), `"cutBy":"engine"`)
}

func TestAnAnswerThatTakesTooLongIsAGatewayTimeout(t *testing.T) {
	for _, path := range []string{"/v1/completions", "/chat"} {
		working, stopped := make(chan struct{}), make(chan struct{})
		f := start(t, func(_ http.ResponseWriter, r *http.Request) {
			close(working)
			<-r.Context().Done()
			close(stopped)
		})
		go func() {
			<-working
			f.clock.Step(f.cfg.RequestTimeout)
		}()
		res, body := f.do(t, http.MethodPost, path, `{"prompt":"q"}`)
		requireError(t, res, body, http.StatusGatewayTimeout, "request_timeout")
		<-stopped
	}
}

func TestAStreamHasADeadlineOfItsOwn(t *testing.T) {
	more := make(chan struct{})
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			_, _ = io.WriteString(w, "data: a\n\n")
			w.(http.Flusher).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	})
	res := f.open(t, t.Context(), http.MethodPost, "/v1/completions", `{}`)
	defer func() { _ = res.Body.Close() }() // what is left of it is of no interest
	lines := bufio.NewReader(res.Body)
	_, err := lines.ReadString('\n')
	require.NoError(t, err)

	f.clock.Step(f.cfg.RequestTimeout + time.Second)
	more <- struct{}{}
	for range 2 {
		_, err = lines.ReadString('\n')
		require.NoError(t, err, "request-timeout does not end a stream")
	}
	f.clock.Step(f.cfg.StreamTimeout)
	_, err = io.ReadAll(lines)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, "1", f.metric(t, `kaito_gateway_answers_cut_total{by="deadline",route="/v1/completions"}`))
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	stopped := make(chan struct{})
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(stopped)
		w.Header().Set("Content-Type", "text/event-stream")
		chunk := strings.Repeat("x", 64<<10)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	}, func(c *Config) { c.WriteTimeout = 100 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	require.NoError(t, err)
	select {
	case <-stopped:
	case <-time.After(eventually.Short):
		t.Fatal("a client that does not read holds one of the engine's places")
	}
	until(t, "the client is named", func() bool {
		return f.metric(t, `kaito_gateway_answers_cut_total{by="client",route="/v1/completions"}`) == "1"
	})
}

func TestRequestOnADeadKeptConnectionIsRetriedOnce(t *testing.T) {
	for _, path := range []string{"/v1/completions", "/chat"} {
		var f *fixture
		dead := map[int]bool{2: true, 4: true, 5: true} // by the number of the request
		f = start(t, func(w http.ResponseWriter, _ *http.Request) {
			if !dead[len(f.requests())] {
				_, _ = io.WriteString(w, oneChoice)
				return
			}
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		})
		for range 2 { // the second finds its connection dead, and is sent once more on a new one
			res, body := f.do(t, http.MethodPost, path, `{"prompt":"q"}`)
			require.Equal(t, http.StatusOK, res.StatusCode, body)
		}
		require.Len(t, f.requests(), 3)
		assert.Equal(t, f.requests()[1].body, f.requests()[2].body)
		assert.NotContains(t, f.requests()[2].header, "Idempotency-Key")

		res, body := f.do(t, http.MethodPost, path, `{"prompt":"q"}`)
		requireError(t, res, body, http.StatusBadGateway, "engine_error")
		assert.Len(t, f.requests(), 5, "what dies on a new connection as well is not sent a third time")
	}
}
