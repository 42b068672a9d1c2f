// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"
)

// Causes with which the gateway itself ends a request.
var (
	errRequestDeadline = errors.New("the answer took longer than request-timeout")
	errStreamDeadline  = errors.New("the stream took longer than stream-timeout")
)

// statusClientGone is what logs and metrics say of a request whose client left before an answer began. It is never
// sent.
const statusClientGone = 499

// Gateway is the handler of everything a client can reach; Status is that of probes and metrics.
type Gateway struct {
	cfg     Config
	engine  *url.URL
	clock   clock.WithDelayedExecution
	logger  *slog.Logger
	table   routeTable
	keys    *keyRing // nil: no key is asked for
	limiter *limiter
	// uploads are the places of requests whose bodies are still arriving when they ask for one of the engine's.
	uploads *limiter
	intake  *intake
	// translators are the places of /chat bodies that are being translated.
	translators *semaphore.Weighted
	metrics     *metrics
	ready       *readiness
	transport   http.RoundTripper
	// connections are what transport is made of.
	connections *http.Transport
	proxy       *httputil.ReverseProxy
	// inference is serve, in a span where tracing is on.
	inference http.Handler
	drain     *drain
}

// Options are what a Gateway is given besides its Config. The zero value is complete.
type Options struct {
	// Clock times deadlines, queues and caches; nil is the real one.
	Clock clock.WithDelayedExecution
	// Logger gets JSON or text lines that hold neither prompts nor keys; nil drops them.
	Logger *slog.Logger
	// TracerProvider makes a span of each inference request; nil makes none.
	TracerProvider trace.TracerProvider
}

// New returns a Gateway, or every problem of cfg. It reads the key file, where there is one, and calls nobody.
func New(cfg Config, opts Options) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	engine, err := cfg.engineURL()
	if err != nil {
		return nil, err
	}
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		cfg: cfg, engine: engine, clock: opts.Clock, logger: opts.Logger, table: newRouteTable(),
		limiter:     newLimiter(opts.Clock, cfg.MaxConcurrent, cfg.MaxQueue, cfg.QueueTimeout),
		uploads:     newLimiter(opts.Clock, max(cfg.MaxConcurrent/uploadShare, 1), cfg.MaxQueue, cfg.QueueTimeout),
		intake:      newIntake(intakeBytes),
		translators: semaphore.NewWeighted(maxTranslations),
		connections: newTransport(cfg),
	}
	g.transport = g.connections
	g.drain = newDrain()
	g.metrics = newMetrics(g.limiter, g.draining)
	if cfg.APIKeyFile != "" {
		if g.keys, err = newKeyRing(cfg.APIKeyFile, opts.Clock, opts.Logger, g.metrics.keyReload); err != nil {
			return nil, err
		}
	}
	g.ready = newReadiness(opts.Clock, g.probeEngine)
	g.inference = http.HandlerFunc(g.serve)
	if opts.TracerProvider != nil {
		g.trace(opts.TracerProvider)
	}
	g.proxy = g.newProxy()
	return g, nil
}

// Drain makes /readyz say no, and asks clients to come back on another connection, from now on.
func (g *Gateway) Drain() { g.drain.begin() }

func (g *Gateway) draining() bool { return g.drain.began() }

// Close lets go of the idle connections to the engine.
func (g *Gateway) Close() { g.connections.CloseIdleConnections() }

// ServeHTTP answers the routes, and nothing else: what clients reach may be an address outside the cluster.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := newRecorder(w, g.cfg.WriteTimeout, g.clock.Now)
	if g.draining() {
		rec.Header().Set("Connection", "close")
	}
	rt := g.table.lookup(r.URL.Path)
	if rt == nil {
		g.metrics.refused("unknown_url")
		unknownPath(r.URL.Path).write(rec)
		return
	}
	ex := &exchange{route: rt, requestID: requestID(r), start: g.clock.Now(), client: r.Context(), rec: rec}
	rec.Header().Set("X-Request-Id", ex.requestID)
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex))
	r.Pattern = rt.pattern
	g.inference.ServeHTTP(rec, r)
}

// exchange is one request on its way through.
type exchange struct {
	route     *route
	requestID string
	start     time.Time
	rec       *recorder
	// body is the memory that the request's body takes.
	body *charge
	// whole is the body, where it was complete before the request was admitted.
	whole []byte
	// client is the context that ends when the client leaves; the engine call's ends then too, and at the deadline.
	client context.Context
	cancel context.CancelCauseFunc
	timer  clock.Timer
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	ex, _ := ctx.Value(exchangeKey{}).(*exchange)
	return ex
}

// serve takes a request of a known route through the refusals, the queue and the engine.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	ex := exchangeOf(r.Context())
	ctx, cancel := context.WithCancelCause(r.Context())
	ex.cancel = cancel
	whole := false
	// The proxy ends an answer that broke in the middle by a panic that net/http understands: whole stays false then.
	defer func() {
		g.finish(ctx, ex, whole)
		cancel(nil)
	}()
	g.metrics.inFlight.Inc()
	defer g.metrics.inFlight.Dec()

	r = r.WithContext(ctx)
	if refusal := g.handle(w, r, ex); refusal != nil {
		g.metrics.refused(refusal.code)
		refusal.write(w)
	}
	whole = true
}

// handle answers r, or returns the refusal that is to be written. It returns nil, with nothing written, where the
// client is gone.
func (g *Gateway) handle(w http.ResponseWriter, r *http.Request, ex *exchange) *apiError {
	if r.Method != ex.route.method {
		return methodNotAllowed(r.Method, ex.route.pattern, ex.route.method)
	}
	if g.keys != nil && !g.keys.allows(r) {
		return unauthorized()
	}
	if ex.route.chat {
		if refusal := checkChatType(r); refusal != nil {
			return refusal
		}
	}
	ex.body = g.charged(ex.rec)
	defer ex.body.leave()
	if err := g.takeBody(r, ex); err != nil {
		return g.bodyError(ex.route, err)
	}
	if upload, ok := r.Body.(*uploadBody); ok {
		defer upload.done() // where nothing reads it
	}
	if ex.route.engineWork {
		if err := g.limiter.acquire(r.Context()); err != nil {
			return g.queueRefusal(err)
		}
		began := g.clock.Now()
		g.metrics.queueWait.Observe(began.Sub(ex.start).Seconds())
		defer func() { g.limiter.release(g.clock.Since(began)) }()
	}
	ex.timer = g.clock.AfterFunc(g.cfg.RequestTimeout, func() { ex.cancel(errRequestDeadline) })
	// ex.timer is another one by the end of a stream.
	defer func() { ex.timer.Stop() }()
	if ex.route.chat {
		// Only now: a body that is not admitted costs no more than what takeBody holds of it.
		chat, err := g.readChat(r, ex)
		if err != nil {
			return g.bodyError(ex.route, err)
		}
		return g.answerChat(w, r, chat)
	}
	g.proxy.ServeHTTP(w, r)
	return nil
}

func (g *Gateway) queueRefusal(err error) *apiError {
	refusal := &apiError{status: http.StatusTooManyRequests, kind: typeRateLimit, retryAfter: g.limiter.retryAfter()}
	switch {
	case errors.Is(err, errQueueFull):
		refusal.code = "queue_full"
		refusal.message = "The model is busy and its queue is full. Try again after the time that Retry-After gives, in seconds."
	case errors.Is(err, errQueueTimeout):
		refusal.code = "queue_timeout"
		refusal.message = "The model stayed busy for " + g.cfg.QueueTimeout.String() + ". Try again after the time that Retry-After gives, in seconds."
	default:
		return nil
	}
	return refusal
}

// finish notes what became of the request.
func (g *Gateway) finish(ctx context.Context, ex *exchange, whole bool) {
	status, elapsed := ex.rec.status, g.clock.Since(ex.start)
	cut := ""
	if !whole {
		cut = g.cutBy(ctx, ex)
	}
	if status == 0 {
		status = statusClientGone
	}
	g.metrics.finished(ex, status, elapsed, cut)

	level := slog.LevelDebug
	if cut == "engine" || cut == "deadline" || status >= 500 {
		level = slog.LevelWarn
	}
	if !g.logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("route", ex.route.pattern), slog.Int("status", status),
		slog.Duration("elapsed", elapsed), slog.String("requestID", ex.requestID),
	}
	if cut != "" {
		attrs = append(attrs, slog.String("cutBy", cut))
	}
	g.logger.LogAttrs(ctx, level, "Finished a request", attrs...)
}

// cutBy says who ended an answer in its middle.
func (g *Gateway) cutBy(ctx context.Context, ex *exchange) string {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errRequestDeadline), errors.Is(cause, errStreamDeadline):
		return "deadline"
	case ex.client.Err() != nil, ex.rec.writeErr != nil:
		return "client"
	default:
		return "engine"
	}
}

// requestID returns the client's X-Request-Id where it is a plain token, else a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); isToken(id) {
		return id
	}
	return rand.Text()
}
