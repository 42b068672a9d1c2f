// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"kaito.sh/workspace-operator/internal/gateway"
)

// Environment of a subject's process.
const (
	envRole    = "GATEWAY_BENCH_ROLE"
	envEngine  = "GATEWAY_BENCH_ENGINE"
	envProfile = "GATEWAY_BENCH_PROFILE"
)

// Roles.
const (
	roleEngine  = "engine"
	roleBare    = "bare"
	roleGateway = "gateway" // only for profiles; otherwise the gateway's own program runs
)

// model is the served name.
const model = "workspace-phi-3"

// runSubject is the main function of a subject's process. It says where it listens in the gateway's words.
func runSubject(role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if role == roleGateway {
		return profiledGateway(ctx, ln, logger)
	}
	logger.Info("Serving", "address", ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", serveCosts)
	if role == roleEngine {
		mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
		mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"`+model+`","object":"model"}]}`)
		})
		mux.HandleFunc("POST /v1/chat/completions", serveAnswer)
	} else {
		target, err := url.Parse(os.Getenv(envEngine))
		if err != nil {
			return err
		}
		// As many idle connections as the gateway keeps; with the default of two, connecting would be all that is measured.
		connections := &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}
		proxy := &httputil.ReverseProxy{Transport: connections, Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			// Without it some streams break off under load: net/http closes the request's body as the answer begins, while the
			// proxy's transport has yet to see the body's end.
			_ = http.NewResponseController(w).EnableFullDuplex()
			proxy.ServeHTTP(w, r)
		})
	}
	server := &http.Server{Handler: mux} //nolint:gosec // its clients are this benchmark's
	go func() { <-ctx.Done(); _ = server.Close() }()
	if err := server.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// profiledGateway serves as cmd/gateway does, and writes a CPU profile.
func profiledGateway(ctx context.Context, ln net.Listener, logger *slog.Logger) error {
	file, err := os.Create(os.Getenv(envProfile))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // a profile that is cut short shows when it is read
	cfg := gateway.DefaultConfig()
	cfg.Engine, cfg.Model, cfg.MaxConcurrent, cfg.DrainDelay = os.Getenv(envEngine), model, 1024, 0
	g, err := gateway.New(cfg, gateway.Options{Logger: logger})
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	status, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return g.Serve(ctx, ln, status)
}

// serveCosts serves the same metrics of this process as the gateway.
func serveCosts(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_, _ = fmt.Fprintf(
		w, "%s %d\n%s %d\n%s %d\n", seriesMallocs, m.Mallocs, seriesHeap, m.HeapInuse, seriesGoroutines,
		runtime.NumGoroutine(),
	)
}

// question is a request's body, as the benchmark's engine reads it: Chunks 0 is an answer in one piece.
type question struct {
	Model    string            `json:"model"`
	Messages []json.RawMessage `json:"messages"`
	Stream   bool              `json:"stream,omitempty"`
	Chunks   int               `json:"chunks,omitempty"`
	// EveryMS is the time between two chunks, OffsetUS when in that time they are due, by the clock. So it does not depend
	// on when the requests came how many chunks are due at once.
	EveryMS  int `json:"every_ms,omitempty"`
	OffsetUS int `json:"offset_us,omitempty"`
}

// wholeAnswer has the size of a short one.
var wholeAnswer = []byte(
	`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"` + model + `","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat(
			"because ", 40,
		) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":40,"total_tokens":140}}`,
)

const done = "data: [DONE]\n\n"

// serveAnswer is the engine's work. A chunk carries the time at which it is written, in Unix nanoseconds: all processes
// read one clock.
func serveAnswer(w http.ResponseWriter, r *http.Request) {
	var q question
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !q.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(wholeAnswer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	_ = control.Flush() // the headers
	every := time.Duration(q.EveryMS) * time.Millisecond
	now := time.Now()
	time.Sleep(now.Truncate(every).Add(every + time.Duration(q.OffsetUS)*time.Microsecond).Sub(now))
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var line []byte
	for range q.Chunks {
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
		line = fmt.Appendf(
			line[:0],
			`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" token"}}],"at":%d}`+"\n\n",
			time.Now().UnixNano(),
		)
		if _, err := w.Write(line); err != nil {
			return
		}
		_ = control.Flush()
	}
	_, _ = io.WriteString(w, done)
}
