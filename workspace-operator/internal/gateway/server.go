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

// ErrDrainIncomplete says that requests were cut off because they outlasted drain-timeout.
var ErrDrainIncomplete = errors.New("requests outlasted drain-timeout and were cut off")

// statusGrace bounds the last answers on the status port, which are ready when the drain ends.
const statusGrace = 2 * time.Second

// Serve answers clients on ln and the cluster on status until ctx ends, and then stops in order: /readyz says no,
// requests that still come are taken for DrainDelay, the listener closes, what runs is waited for until DrainTimeout is
// over, and /drained answers. It closes both listeners.
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
	// The engine may end now: the hook of its container has waited for this.
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
	// Closing ends the connections, and with them the requests' contexts and the engine's work.
	if closeErr := server.Close(); closeErr != nil {
		g.logger.Debug("Closing the connections failed", "error", closeErr)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrDrainIncomplete
	}
	return fmt.Errorf("stopping: %w", err)
}
