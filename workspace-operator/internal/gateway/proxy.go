// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// engineIdleTimeout is shorter than vLLM's timeout of idle connections (VLLM_HTTP_TIMEOUT_KEEP_ALIVE, 5 s), so that
// the engine does not close a connection while a request is being sent on it.
const engineIdleTimeout = 4 * time.Second

func newTransport(cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return &http.Transport{
		// No proxy from the environment: the engine is in the same pod.
		DialContext:         dialer.DialContext,
		MaxIdleConns:        cfg.MaxConcurrent,
		MaxIdleConnsPerHost: cfg.MaxConcurrent,
		IdleConnTimeout:     engineIdleTimeout,
		// Forward compressed content unchanged.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// withheld are headers that the gateway does not forward: credentials, and vLLM's choice of a data-parallel rank, which
// would let a client bypass the balancing. The list is read only.
var withheld = []string{
	"Authorization",
	"Cookie",
	"Proxy-Authorization",
	"X-Api-Key",
	"X-Data-Parallel-Rank",
	"X-Real-Ip",
}

// newProxy returns the proxy to the engine. FlushInterval is zero: ReverseProxy then flushes each write of an event
// stream, and of other answers without a length, and does not flush the rest.
func (g *Gateway) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  g.transport,
		BufferPool: &bufferPool{},
		ErrorLog:   slog.NewLogLogger(g.logger.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			ex := exchangeOf(p.In.Context())
			p.Out.URL.Scheme, p.Out.URL.Host = g.engine.Scheme, g.engine.Host
			p.Out.Method = ex.route.method // vLLM has no HEAD; net/http leaves the body out
			// Forward the path that was checked, without the client's encoding.
			p.Out.URL.RawPath = ""
			p.Out.URL.User, p.Out.URL.Fragment, p.Out.URL.Opaque = nil, "", ""
			p.Out.Host = ""
			for _, name := range withheld {
				p.Out.Header.Del(name)
			}
			// An upgraded connection would give access to all paths of the engine.
			p.Out.Header.Del("Upgrade")
			p.Out.Header.Del("Connection")
			p.Out.Header.Set("X-Request-Id", ex.requestID)
			repeatable(p.Out)
		},
		ModifyResponse: func(res *http.Response) error {
			res.Header.Del("Server")
			res.Header.Del("X-Request-Id") // the gateway sets it
			g.extendStream(res)
			return g.shapeError(res)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if refusal := g.engineFailure(r.Context(), err); refusal != nil {
				g.metrics.refused(refusal.code)
				refusal.write(w)
			}
		},
	}
}

// repeatable lets the transport repeat a call if a kept-alive connection is closed before the first byte of the answer.
// By default, net/http does not repeat a POST, but inference has no side effects. net/http does not send a header
// without a value.
func repeatable(call *http.Request) {
	if _, given := call.Header["Idempotency-Key"]; !given {
		call.Header["Idempotency-Key"] = nil
	}
}

// extendStream replaces the deadline of the request by that of streams.
func (g *Gateway) extendStream(res *http.Response) {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || kind != "text/event-stream" {
		return
	}
	ex := exchangeOf(res.Request.Context())
	ex.timer.Stop()
	if g.cfg.StreamTimeout > 0 {
		ex.timer = g.clock.AfterFunc(g.cfg.StreamTimeout, func() { ex.cancel(errStreamDeadline) })
	}
}

// engineFailure converts an error of the engine call into a response; nil means that the client disconnected.
func (g *Gateway) engineFailure(ctx context.Context, err error) *apiError {
	var tooLarge *http.MaxBytesError
	var network *net.OpError
	refusal := &apiError{kind: typeServer}
	switch ex := exchangeOf(ctx); {
	case errors.Is(context.Cause(ctx), errRequestDeadline):
		refusal.status, refusal.code = http.StatusGatewayTimeout, "request_timeout"
		refusal.message = "The model did not answer within " + g.cfg.RequestTimeout.String() + ". Request fewer tokens, or a stream, which may take longer."
	case ex.client.Err() != nil:
		return nil
	case errors.As(err, &tooLarge):
		return bodyTooLarge(ex.route, tooLarge.Limit)
	case errors.As(err, &network) && network.Op == "dial":
		refusal.status, refusal.code, refusal.retryAfter = http.StatusServiceUnavailable, "engine_unavailable", 5*time.Second
		refusal.message = "The inference engine does not accept connections: it is loading the model, or it stopped. Try again later."
		g.logger.Warn("Reaching the engine failed", "error", network.Err)
	default:
		refusal.status, refusal.code = http.StatusBadGateway, "engine_error"
		refusal.message = "The inference engine closed the connection before it answered. Try again."
		g.logger.Warn("Calling the engine failed", "error", err, "requestID", ex.requestID)
	}
	return refusal
}

// bufferPool has the buffers for copying answers, so that a stream does not allocate one.
type bufferPool struct{ pool sync.Pool }

// copyBytes is the size of a buffer, larger than an event of a stream.
const copyBytes = 32 << 10

func (b *bufferPool) Get() []byte {
	if held, ok := b.pool.Get().(*[copyBytes]byte); ok {
		return held[:]
	}
	return make([]byte, copyBytes)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[copyBytes]byte)(buffer)) }
