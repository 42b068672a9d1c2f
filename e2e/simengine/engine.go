// SPDX-License-Identifier: Apache-2.0

package simengine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"
)

// Options say what the engine pretends to be. Only ServedNames is required.
type Options struct {
	// ServedNames are the names the model answers to; the first is the one it uses of itself.
	ServedNames []string
	// Release is the engine's that is simulated; empty: the newest.
	Release string
	// Model is what was loaded, such as microsoft/Phi-3-mini-128k-instruct; empty means the first of ServedNames.
	Model string
	// Adapters are loaded from the start.
	Adapters []Adapter
	// MaxModelLen bounds prompt and answer together, in tokens; 0 means 4096.
	MaxModelLen int
	// MaxNumSeqs bounds the requests that run at once, the rest wait; 0 means 256, which is vLLM's default.
	MaxNumSeqs int
	// MaxLoras is how many adapters fit into one batch; 0 means 1, which is vLLM's default. Without EnableLoRA it says
	// nothing.
	MaxLoras   int
	EnableLoRA bool
	// RuntimeLoRA opens /v1/load_lora_adapter and its opposite, as VLLM_ALLOW_RUNTIME_LORA_UPDATING does.
	RuntimeLoRA bool
	// DevMode opens the routes that VLLM_SERVER_DEV_MODE opens: pause, sleep, collective_rpc, update_weights, …
	DevMode bool
	// Group is the process' place among those of several nodes; the program meets the others before it serves.
	Group Group
	// LoadTime is how long everything is answered with 503 after New.
	LoadTime time.Duration
	// FirstToken and EachToken pace an answer; zero means at once.
	FirstToken time.Duration
	EachToken  time.Duration
	// Faults are there from the start; SetFaults changes them.
	Faults Faults
	// Clock times loading and tokens; nil means the real one.
	Clock clock.Clock
}

// Faults are what goes wrong, until they are taken back.
type Faults struct {
	// Unhealthy makes /health answer 503, as a dead engine core does.
	Unhealthy bool
	// FailRequests makes that many of the next inference requests fail with 500.
	FailRequests int
	// CutAfterTokens, where above 0, breaks the connection of an answer after that many tokens.
	CutAfterTokens int
	// ExtraEachToken slows every token down.
	ExtraEachToken time.Duration
}

// Engine is a simulated engine. It is an http.Handler; Start serves it on an address of its own.
type Engine struct {
	opts   Options
	clock  clock.Clock
	loaded time.Time
	mux    *http.ServeMux
	seats  *semaphore.Weighted
	meters *meters

	mu       sync.Mutex
	faults   Faults
	adapters []Adapter
	calls    []string
	serial   int
	weights  int
	// resumed is closed when generation continues; nil means that it is not paused.
	resumed chan struct{}
	asleep  bool
	server  *http.Server
	serving chan error
}

const (
	defaultMaxModelLen = 4096
	defaultMaxNumSeqs  = 256
)

// New returns an engine that is loading from now on, or says which option is wrong.
func New(opts Options) (*Engine, error) {
	if len(opts.ServedNames) == 0 || opts.ServedNames[0] == "" {
		return nil, errors.New("ServedNames is empty: give the engine at least one name to answer to")
	}
	if len(opts.Adapters) > 0 && !opts.EnableLoRA {
		return nil, errors.New(
			"option Adapters is given without EnableLoRA: vLLM takes --lora-modules with --enable-lora only",
		)
	}
	if filepath.IsAbs(opts.Model) {
		// A folder is loaded, a name downloaded: a simulation has to be given the first, and needs no second.
		if _, err := os.Stat(filepath.Join(opts.Model, "config.json")); err != nil {
			return nil, fmt.Errorf("%s does not appear to have a file named config.json: %w", opts.Model, err)
		}
	}
	for i, value := range []int{opts.MaxModelLen, opts.MaxNumSeqs, opts.MaxLoras} {
		if value < 0 {
			return nil, fmt.Errorf(
				"%s is %d: it must be 0 (the default) or more", []string{"MaxModelLen", "MaxNumSeqs", "MaxLoras"}[i], value,
			)
		}
	}
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.Model == "" {
		opts.Model = opts.ServedNames[0]
	}
	if opts.MaxModelLen == 0 {
		opts.MaxModelLen = defaultMaxModelLen
	}
	if opts.MaxNumSeqs == 0 {
		opts.MaxNumSeqs = defaultMaxNumSeqs
	}
	if opts.MaxLoras == 0 {
		opts.MaxLoras = 1
	}
	e := &Engine{
		opts: opts, clock: opts.Clock, loaded: opts.Clock.Now().Add(opts.LoadTime), faults: opts.Faults,
		seats: semaphore.NewWeighted(int64(opts.MaxNumSeqs)),
	}
	e.meters = newMeters(e)
	for _, a := range opts.Adapters {
		if err := e.addAdapter(a, false); err != nil {
			return nil, err
		}
	}
	e.mux = e.routes()
	return e, nil
}

// ServeHTTP answers as the engine; with 503 while it is loading.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.clock.Now().Before(e.loaded) {
		writeError(w, http.StatusServiceUnavailable, "ServiceUnavailableError", "", "The model is loading.")
		return
	}
	e.mux.ServeHTTP(w, r)
}

// Stall lets every request wait from now on: nothing is computed while a rank is gone.
func (e *Engine) Stall() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.resumed == nil {
		e.resumed = make(chan struct{})
	}
}

// SetFaults replaces what goes wrong from now on.
func (e *Engine) SetFaults(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = f
}

// Faults returns what goes wrong now.
func (e *Engine) Faults() Faults {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.faults
}

// AdminCalls returns the administration calls that reached the engine, as "METHOD /path", in order.
func (e *Engine) AdminCalls() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.calls...)
}

// Start serves the engine on addr, such as 127.0.0.1:0, until Stop, and returns its URL.
func (e *Engine) Start(ctx context.Context, addr string) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listening on %q: %w", addr, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		return "", errors.Join(errors.New("the engine is already serving: Stop it first"), ln.Close())
	}
	// vLLM closes a connection that was idle for 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE).
	server, serving := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Second,
	}, make(chan error, 1)
	e.server, e.serving = server, serving
	go func() { serving <- server.Serve(ln) }()
	return "http://" + ln.Addr().String(), nil
}

// Stop stops serving. It waits for running requests until ctx ends, and then aborts them. It returns no error if the
// engine does not serve.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	server, serving := e.server, e.serving
	e.server, e.serving = nil, nil
	e.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if served := <-serving; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// routes are vLLM's, those of inference and those that a gateway must keep closed.
func (e *Engine) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", e.health)
	mux.Handle("GET /metrics", e.meters.handler())
	mux.HandleFunc("GET /v1/models", e.listModels)
	mux.HandleFunc("POST /v1/chat/completions", e.chatCompletions)
	mux.HandleFunc("POST /v1/completions", e.completions)
	e.adminRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "NotFoundError", "", "Not Found")
	})
	return mux
}

// health answers an empty 200, or the 503 of an engine whose core died.
func (e *Engine) health(w http.ResponseWriter, _ *http.Request) {
	if e.Faults().Unhealthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
