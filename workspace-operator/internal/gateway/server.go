package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
)

// ErrDrainIncomplete says that requests were cut off because they outlasted drain-timeout.
var ErrDrainIncomplete = errors.New("requests outlasted drain-timeout and were cut off")

// Serve answers on ln until ctx ends, and then stops in order: /readyz says no, requests that still come are taken for
// DrainDelay, the listener closes, and what runs is waited for until DrainTimeout is over. It closes ln.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: g.cfg.ReadHeaderTimeout,
		IdleTimeout:       g.cfg.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(g.logger.Handler(), slog.LevelWarn),
	}
	defer g.Close()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	g.logger.Info("Serving", "address", ln.Addr().String(), "engine", g.engine.String(), "model", g.cfg.Model)
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}

	delay := g.clock.After(g.cfg.DrainDelay)
	g.Drain()
	g.logger.Info("Draining", "delay", g.cfg.DrainDelay, "timeout", g.cfg.DrainTimeout)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.DrainTimeout)
	defer cancel()
	select {
	case <-delay:
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
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
