// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"kaito.sh/shared/redact"
)

// Line is a progress line.
type Line struct {
	Time  time.Time `json:"time"`
	Step  string    `json:"step"`
	Event string    `json:"event"`
	// Item is the current file, layer or source of rows.
	Item  string `json:"item,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`
	// TotalBytes is 0 while it is unknown.
	TotalBytes int64          `json:"totalBytes,omitempty"`
	Percent    float64        `json:"percent,omitempty"`
	Message    string         `json:"message,omitempty"`
	Fields     map[string]any `json:"fields,omitempty"`
}

// interval is the time between two lines of a running transfer: short enough for a person, and long enough for a log
// store.
const interval = 2 * time.Second

// Reporter reports the progress of one step. It is safe for concurrent use.
type Reporter struct {
	step  string
	clk   clock.PassiveClock
	mu    sync.Mutex
	out   io.Writer
	last  Line
	next  time.Time
	bytes int64
	total int64
}

// New returns a Reporter that writes the lines of a step to out.
func New(step string, out io.Writer, clk clock.PassiveClock) *Reporter {
	return &Reporter{step: step, out: out, clk: clk}
}

// Event writes a line at once. URLs in the message lose their secrets.
func (r *Reporter) Event(event, message string, fields map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(Line{Event: event, Message: redact.Text(message), Fields: fields})
}

// Expect adds to the expected number of bytes. The number may be negative.
func (r *Reporter) Expect(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total += bytes
}

// Advance counts transferred bytes of an item, and writes a line if the last one is old enough. The number is negative
// for bytes that have to be transferred again.
func (r *Reporter) Advance(item string, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += bytes
	if now := r.clk.Now(); now.Before(r.next) {
		r.last = r.fill(Line{Event: "progress", Item: item})
		return
	}
	r.write(Line{Event: "progress", Item: item})
}

func (r *Reporter) fill(l Line) Line {
	l.Time, l.Step = r.clk.Now().UTC(), r.step
	l.Bytes, l.TotalBytes = r.bytes, r.total
	if r.total > 0 {
		l.Percent = float64(r.bytes*1000/r.total) / 10
	}
	return l
}

func (r *Reporter) write(l Line) {
	l = r.fill(l)
	r.last = l
	r.next = l.Time.Add(interval)
	raw, err := json.Marshal(l)
	if err != nil {
		raw = fmt.Appendf(nil, `{"step":%q,"event":"unprintable","message":%q}`, r.step, err)
	}
	// A closed log must not end a transfer.
	_, _ = r.out.Write(append(raw, '\n'))
}

// Latest returns the latest line, also if it was not written.
func (r *Reporter) Latest() Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Handler serves GET /progress (the latest line) and GET /healthz.
func (r *Reporter) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /progress", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// This fails only if the client has closed the connection.
		_ = json.NewEncoder(w).Encode(r.Latest())
	})
	return mux
}

// Serve listens until the context ends. It returns its address, and a function that waits until the server has stopped.
// An empty address serves nothing.
func (r *Reporter) Serve(ctx context.Context, address string) (bound string, wait func() error, err error) {
	if address == "" {
		return "", func() error { return nil }, nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("serving progress at %s: %w", address, err)
	}
	srv := &http.Server{Handler: r.Handler(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // progress requests may be interrupted
	go func() {
		defer stop()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			done <- err
			return
		}
		done <- nil
	}()
	return ln.Addr().String(), func() error { return <-done }, nil
}
