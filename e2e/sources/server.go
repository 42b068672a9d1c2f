// SPDX-License-Identifier: Apache-2.0

package sources

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Server serves one handler over TLS.
type Server struct {
	http    *http.Server
	address string
	serving chan error
}

// Serve listens on an address (host:port; port 0 takes a free one) until Stop.
func Serve(ctx context.Context, address string, certificate tls.Certificate, handler http.Handler) (*Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", address, err)
	}
	s := &Server{
		address: listener.Addr().String(), serving: make(chan error, 1),
		http: &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
			ErrorLog:  log.New(io.Discard, "", 0), // clients without the authority are expected
		},
	}
	go func() { s.serving <- s.http.ServeTLS(listener, "", "") }()
	return s, nil
}

// Address is host:port.
func (s *Server) Address() string { return s.address }

// Stop ends serving; answers that are under way are cut.
func (s *Server) Stop() error {
	err := s.http.Close()
	if served := <-s.serving; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
