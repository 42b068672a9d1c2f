// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// readyFor is the validity of a check of the engine: shorter than a probe's period, longer than a burst of probes.
	readyFor = time.Second
	// probeTimeout is the maximum time of a check of the engine, or of reading its metrics.
	probeTimeout = 2 * time.Second
	// maxProbeBytes limits the engine's list of models.
	maxProbeBytes = 1 << 20
)

// readiness caches the last check of the engine. Concurrent callers share one check.
type readiness struct {
	clock clock.PassiveClock
	probe func(context.Context) error

	mu     sync.Mutex
	looked time.Time
	last   error
}

func newReadiness(c clock.PassiveClock, probe func(context.Context) error) *readiness {
	return &readiness{clock: c, probe: probe}
}

// check returns nil if the engine serves the model, or an error.
func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock() // waiting callers get the cached result, at most after probeTimeout
	defer r.mu.Unlock()
	if !r.looked.IsZero() && r.clock.Since(r.looked) < readyFor {
		return r.last
	}
	// The check serves all callers, so it must not end with the context of the first one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	r.last = r.probe(ctx)
	r.looked = r.clock.Now()
	return r.last
}

func (g *Gateway) serveReady(w http.ResponseWriter, r *http.Request) {
	err := errors.New("the gateway is stopping")
	if !g.draining() {
		err = g.ready.check(r.Context())
	}
	if err != nil {
		(&apiError{
			status: http.StatusServiceUnavailable, kind: typeServer, code: "not_ready",
			message: "Not ready: " + err.Error() + ".",
		}).write(
			w,
		)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready", "model": g.cfg.Model})
}

// probeEngine checks that the engine is healthy and lists the model.
func (g *Gateway) probeEngine(ctx context.Context) error {
	if _, err := g.get(ctx, "/health", maxProbeBytes); err != nil {
		return err
	}
	names, err := g.listModels(ctx)
	if err != nil || slices.Contains(names, g.cfg.Model) {
		return err
	}
	return fmt.Errorf("the engine does not list model %q", g.cfg.Model)
}

// get reads a path of the engine, at most limit bytes.
func (g *Gateway) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.engine.String()+path, nil)
	if err != nil {
		return nil, err
	}
	// Prefer Prometheus' text format, because two pages in it can be concatenated.
	req.Header.Set("Accept", "application/json, text/plain;version=0.0.4")
	res, err := g.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("the engine's %s cannot be reached: %w", path, err)
	}
	defer func() { _ = res.Body.Close() }() // read only
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the engine's %s cannot be read: %w", path, err)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the engine's %s answers with status %d", path, res.StatusCode)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("the engine's %s is larger than %d bytes", path, limit)
	}
	return body, nil
}
