// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ErrDrainIncomplete means that requests were aborted because they exceeded drain-timeout.
var ErrDrainIncomplete = errors.New("requests exceeded drain-timeout and were aborted")

// statusGrace is the maximum time for the last answers on the status port after the drain.
const statusGrace = 2 * time.Second

// Serve serves clients on ln and the cluster on status until ctx ends. Then it stops in order: /readyz fails, new
// requests are accepted for DrainDelay, the listener closes, running requests may end until DrainTimeout, and /drained
// answers. It closes both listeners.
func (g *Gateway) Serve(ctx context.Context, ln, status net.Listener) error {
	server, pages := g.server(g), g.server(g.Status())
	defer g.Close()
	failed := make(chan error, 2)
	go func() { failed <- fmt.Errorf("serving on %s: %w", ln.Addr(), server.Serve(ln)) }()
	go func() { failed <- fmt.Errorf("serving on %s: %w", status.Addr(), pages.Serve(status)) }()
	g.logger.Info(
		"Serving", "address", ln.Addr().String(), "status", status.Addr().String(), "engine", g.engine.String(), "model",
		g.cfg.Model,
	)
	select {
	case err := <-failed:
		return errors.Join(err, server.Close(), pages.Close())
	case <-ctx.Done():
	}
	err := g.stop(ctx, server, failed)
	// Now the engine may stop: the preStop hook of its container waits for this.
	g.drain.end()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusGrace)
	defer cancel()
	if shutdownErr := pages.Shutdown(last); shutdownErr != nil {
		g.logger.Debug("Closing the status port failed", "error", errors.Join(shutdownErr, pages.Close()))
	}
	return err
}

func (g *Gateway) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: g.cfg.ReadHeaderTimeout,
		IdleTimeout:       g.cfg.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(g.logger.Handler(), slog.LevelWarn),
	}
}

// stop drains server.
func (g *Gateway) stop(ctx context.Context, server *http.Server, failed <-chan error) error {
	delay := g.clock.After(g.cfg.DrainDelay)
	g.Drain()
	g.logger.Info("Draining", "delay", g.cfg.DrainDelay, "timeout", g.cfg.DrainTimeout)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.DrainTimeout)
	defer cancel()
	select {
	case <-delay:
	case err := <-failed:
		return errors.Join(err, server.Close())
	}
	err := server.Shutdown(deadline)
	if err == nil {
		g.logger.Info("Drained")
		return nil
	}
	// Close ends the connections, the contexts of the requests, and so the work of the engine.
	if closeErr := server.Close(); closeErr != nil {
		g.logger.Debug("Closing the connections failed", "error", closeErr)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrDrainIncomplete
	}
	return fmt.Errorf("stopping: %w", err)
}
