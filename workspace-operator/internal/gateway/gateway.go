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

// Causes of requests that the gateway ends.
var (
	errRequestDeadline = errors.New("the answer took longer than request-timeout")
	errStreamDeadline  = errors.New("the stream took longer than stream-timeout")
)

// statusClientGone is the status in logs and metrics of a request whose client disconnected before the answer. It is
// never sent.
const statusClientGone = 499

// Gateway is the handler for clients. Status returns the handler for probes and metrics.
type Gateway struct {
	cfg     Config
	engine  *url.URL
	clock   clock.WithDelayedExecution
	logger  *slog.Logger
	table   routeTable
	keys    *keyRing // nil if no key is required
	limiter *limiter
	// uploads are the places of requests whose bodies are still arriving when they get a place in the engine.
	uploads *limiter
	intake  *intake
	// translators limits the number of /chat bodies that are translated at once.
	translators *semaphore.Weighted
	metrics     *metrics
	ready       *readiness
	transport   http.RoundTripper
	// connections is the transport without tracing.
	connections *http.Transport
	proxy       *httputil.ReverseProxy
	// inference is serve, in a span if tracing is enabled.
	inference http.Handler
	drain     *drain
}

// Options are the dependencies of a Gateway. The zero value is valid.
type Options struct {
	// Clock is the clock of deadlines, queues and caches; nil is the real clock.
	Clock clock.WithDelayedExecution
	// Logger receives log lines, which have neither prompts nor keys; nil discards them.
	Logger *slog.Logger
	// TracerProvider creates a span for each inference request; nil disables tracing.
	TracerProvider trace.TracerProvider
}

// New returns a Gateway, or all errors of cfg. It reads the key file. It does not contact the engine.
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

// Drain makes /readyz fail, and asks clients to close their connections.
func (g *Gateway) Drain() { g.drain.begin() }

func (g *Gateway) draining() bool { return g.drain.began() }

// Close closes the idle connections to the engine.
func (g *Gateway) Close() { g.connections.CloseIdleConnections() }

// ServeHTTP serves only the routes, because clients outside the cluster can reach the address.
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

// exchange is the state of one request.
type exchange struct {
	route     *route
	requestID string
	start     time.Time
	rec       *recorder
	// body is the charge for the memory of the request's body.
	body *charge
	// whole is the body if it was complete before the request was admitted.
	whole []byte
	// client is the context that ends when the client disconnects. The context of the engine call also ends at the
	// deadline.
	client context.Context
	cancel context.CancelCauseFunc
	timer  clock.Timer
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	ex, _ := ctx.Value(exchangeKey{}).(*exchange)
	return ex
}

// serve checks a request of a known route, queues it and calls the engine.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	ex := exchangeOf(r.Context())
	ctx, cancel := context.WithCancelCause(r.Context())
	ex.cancel = cancel
	whole := false
	// The proxy ends an incomplete answer with a panic that net/http handles. whole is then false.
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

// handle answers r, or returns an error response to write. It returns nil without writing if the client disconnected.
func (g *Gateway) handle(w http.ResponseWriter, r *http.Request, ex *exchange) *apiError {
	if !ex.route.allows(r.Method) {
		return methodNotAllowed(r.Method, ex.route.pattern, ex.route.method)
	}
	if g.keys != nil && !ex.route.open && !g.keys.allows(r) {
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
		defer upload.done() // in case it is not read
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
	// At the end of a stream, ex.timer is another timer.
	defer func() { ex.timer.Stop() }()
	if ex.route.chat {
		// Only after admission: until then the body costs only the bytes that takeBody holds.
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
		refusal.message = "The model is busy and its queue is full. Try again after the number of seconds in Retry-After."
	case errors.Is(err, errQueueTimeout):
		refusal.code = "queue_timeout"
		refusal.message = "The model stayed busy for " + g.cfg.QueueTimeout.String() + ". Try again after the number of seconds in Retry-After."
	default:
		return nil
	}
	return refusal
}

// finish records the result of the request in logs and metrics.
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

// cutBy returns the cause of an incomplete answer: client, engine or deadline.
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

// requestID returns the client's X-Request-Id if it is a plain token, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); isToken(id) {
		return id
	}
	return rand.Text()
}
