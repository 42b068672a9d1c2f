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
				t.Fatal("the engine goes on working for nobody")
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
		w.Header().Set("X-Engine", "yes")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	})
	body := `{"model":"adapters/dolly-15k","messages":[ ],"logit_bias":{"1":2}}`
	res, got := f.do(t, http.MethodPost, "/v1/chat/completions?api-version=1", body,
		"Content-Type", "application/json", "Accept-Encoding", "br", "X-Request-Id", "from-the-client", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"Authorization", "Bearer secret", "Cookie", "a=b", "X-Api-Key", "secret", "X-Data-Parallel-Rank", "3",
		"X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1")
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
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

func TestOnlyInferenceCanBeReached(t *testing.T) {
	blocked := []string{
		// vLLM's routes besides inference, of its API server and of its development mode.
		"/pause", "/resume", "/is_paused", "/update_weights", "/init_weight_transfer_engine", "/invocations", "/collective_rpc",
		"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/is_sleeping", "/reset_prefix_cache", "/reset_mm_cache",
		"/server_info", "/start_profile", "/stop_profile", "/scale_elastic_ep", "/abort_requests", "/tokenize", "/detokenize", "/docs", "/openapi.json",
		"/version", "/load", "/ping", "/health", "/v1/realtime", "/v1/chat/completions/render", "/inference/v1/generate", "/pooling", "/classify",
		// Ways to write an allowed path that is another one.
		"/", "//v1/models", "/v1/models/", "/v1//models", "/v1/./models", "/v1/models/../../pause", "/v1/chat/completions/../../../pause",
		"/v1/models/%2e%2e/%2e%2e/pause", "/V1/models", "/v1/models%00", "/v1/models%0d%0aX: y", "/v1/models;/pause", "/v1/responses/a%2fb", "/v1/responses/..", "/v1/responses/",
		"/v1/responses/a/cancel/b", "/chat/", "/v1",
	}
	f := start(t, answer(`{}`))
	for _, path := range blocked {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
			require.NoError(t, err)
			_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", method, strings.ReplaceAll(path, " ", "%20"))
			require.NoError(t, err)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err, path)
			answered, body := readReply(t, res)
			requireError(t, answered, body, http.StatusNotFound, "unknown_url")
			require.NoError(t, conn.Close())
		}
	}
	assert.Empty(t, f.requests())
}

func TestEveryRouteReachesItsOwnPathWithItsOwnMethodOnly(t *testing.T) {
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
		assert.Len(t, f.requests(), before+1, "a refused method reaches nobody")
	}
}

func TestAnEncodedPathReachesTheEngineDecoded(t *testing.T) {
	f := start(t, answer(`{}`))
	_, _ = f.do(t, http.MethodPost, "/v1/chat%2Fcompletions", `{}`)
	require.Len(t, f.requests(), 1)
	assert.Equal(t, "/v1/chat/completions", f.requests()[0].path)
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
		answered, _ := readReply(t, res)
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

func TestAWholeTargetWithAnotherHostReachesTheEngineAllTheSame(t *testing.T) {
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
	answers := f.raw(t, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: X-Hop, Upgrade, HTTP2-Settings, close\r\nX-Hop: 1\r\nUpgrade: h2c\r\n"+
		"HTTP2-Settings: AAMAAABkAAQAAP__\r\nKeep-Alive: 1\r\nTE: trailers, deflate\r\nProxy-Authorization: Basic eA==\r\nContent-Length: 2\r\n\r\n{}")
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

func TestAnAnswerThatTheEngineBreaksOffIsNotPassedForWhole(t *testing.T) {
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

func TestAKeptConnectionThatDiesWithoutAnAnswerIsReplacedOnce(t *testing.T) {
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
