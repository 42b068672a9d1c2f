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

// engineIdleTimeout is shorter than vLLM keeps an idle connection (VLLM_HTTP_TIMEOUT_KEEP_ALIVE, 5 s), so that
// the engine is never the one that closes a connection just as a request is sent on it.
const engineIdleTimeout = 4 * time.Second

func newTransport(cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return &http.Transport{
		// No proxy from the environment: the engine is the pod's own neighbour.
		DialContext:         dialer.DialContext,
		MaxIdleConns:        cfg.MaxConcurrent,
		MaxIdleConnsPerHost: cfg.MaxConcurrent,
		IdleConnTimeout:     engineIdleTimeout,
		// What the client and the engine agree on is passed through, not undone and redone here.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// withheld are headers that are the client's business with the gateway, not with the engine: credentials, and
// vLLM's choice of a data-parallel rank, which would let a client defeat the balancing. The list is read only.
var withheld = []string{
	"Authorization",
	"Cookie",
	"Proxy-Authorization",
	"X-Api-Key",
	"X-Data-Parallel-Rank",
	"X-Real-Ip",
}

// newProxy returns the pass-through to the engine. FlushInterval stays zero on purpose: ReverseProxy then flushes every
// write of an event stream, and of any other answer without a length, at once, and spares the rest an extra flush.
func (g *Gateway) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  g.transport,
		BufferPool: &bufferPool{},
		ErrorLog:   slog.NewLogLogger(g.logger.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			ex := exchangeOf(p.In.Context())
			p.Out.URL.Scheme, p.Out.URL.Host = g.engine.Scheme, g.engine.Host
			// The path that was allowed is the path that is asked for, however the client had encoded it.
			p.Out.URL.RawPath = ""
			p.Out.URL.User, p.Out.URL.Fragment, p.Out.URL.Opaque = nil, "", ""
			p.Out.Host = ""
			for _, name := range withheld {
				p.Out.Header.Del(name)
			}
			// An upgraded connection would be a tunnel to every path of the engine.
			p.Out.Header.Del("Upgrade")
			p.Out.Header.Del("Connection")
			p.Out.Header.Set("X-Request-Id", ex.requestID)
			repeatable(p.Out)
		},
		ModifyResponse: func(res *http.Response) error {
			res.Header.Del("Server")
			res.Header.Del("X-Request-Id") // the gateway has set it
			g.extendStream(res)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if refusal := g.engineFailure(r.Context(), err); refusal != nil {
				g.metrics.refused(refusal.code)
				refusal.write(w)
			}
		},
	}
}

// repeatable lets the transport send a call once more where a kept-alive connection turns out to be closed before the
// first byte of an answer. A POST is not repeated otherwise; but inference changes nothing, and a client of ours should
// not see how we keep connections. net/http does not send a header that has no value.
func repeatable(call *http.Request) {
	if _, given := call.Header["Idempotency-Key"]; !given {
		call.Header["Idempotency-Key"] = nil
	}
}

// extendStream gives an event stream its own, longer deadline in place of the request's.
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

// engineFailure turns an error of calling the engine into an answer; nil means that the client is gone.
func (g *Gateway) engineFailure(ctx context.Context, err error) *apiError {
	var tooLarge *http.MaxBytesError
	var network *net.OpError
	refusal := &apiError{kind: typeServer}
	switch ex := exchangeOf(ctx); {
	case errors.Is(context.Cause(ctx), errRequestDeadline):
		refusal.status, refusal.code = http.StatusGatewayTimeout, "request_timeout"
		refusal.message = "The model did not answer within " + g.cfg.RequestTimeout.String() + ". Ask for fewer tokens, or for a stream, which may take longer."
	case ex.client.Err() != nil:
		return nil
	case errors.As(err, &tooLarge):
		return bodyTooLarge(ex.route, tooLarge.Limit)
	case errors.As(err, &network) && network.Op == "dial":
		refusal.status, refusal.code, refusal.retryAfter = http.StatusServiceUnavailable, "engine_unavailable", 5*time.Second
		refusal.message = "The inference engine does not take connections: it is loading the model, or it has stopped. Try again later."
		g.logger.Warn("Reaching the engine failed", "error", network.Err)
	default:
		refusal.status, refusal.code = http.StatusBadGateway, "engine_error"
		refusal.message = "The inference engine broke off before it answered. Try again."
		g.logger.Warn("Calling the engine failed", "error", err, "requestID", ex.requestID)
	}
	return refusal
}

// bufferPool lends the buffers through which answers are copied, so that a stream costs no allocation of its own.
type bufferPool struct{ pool sync.Pool }

// copyBytes is a buffer's size: well above an event of a stream, which is copied as soon as it is there.
const copyBytes = 32 << 10

func (b *bufferPool) Get() []byte {
	if held, ok := b.pool.Get().(*[copyBytes]byte); ok {
		return held[:]
	}
	return make([]byte, copyBytes)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[copyBytes]byte)(buffer)) }
