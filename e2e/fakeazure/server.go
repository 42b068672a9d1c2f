// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"kaito.sh/e2e/authority"
	"kaito.sh/shared/catalog"
)

// Server is the fake cloud.
type Server struct {
	options   Options
	catalog   *catalog.Catalog
	temporary bool
	ca        *authority.Authority

	mutex      sync.Mutex
	pools      map[string]*pool
	operations map[string]*operation
	power      PowerState
	lag        time.Duration // lag of lists of machines
	tokens     map[string]time.Time
	buckets    map[string]*bucket
	faults     []*Fault
	events     []scheduled
	sequence   int
	serial     int
	calls      map[string]int
	throttled  int
	writes     []Write
	// powerRead is the last response to a GET of the cluster, powerReadAt its time.
	powerRead   PowerState
	powerReadAt time.Time
	// telling serializes calls of the node side.
	telling sync.Mutex
	// pending are the calls of the node side that have not succeeded yet, in order.
	pending []nodeEvent
	// dirty is true when the state has changed since it was saved.
	dirty bool

	wake      chan struct{}
	listeners []net.Listener
	servers   []*http.Server
	group     sync.WaitGroup
	cancel    context.CancelFunc
	stop      sync.Once
}

// New returns a server with the state of an earlier one in Options.Dir.
func New(options Options) (*Server, error) {
	s := &Server{
		options: options.withDefaults(), pools: map[string]*pool{}, operations: map[string]*operation{}, power: PowerRunning,
		tokens: map[string]time.Time{}, buckets: map[string]*bucket{}, calls: map[string]int{}, wake: make(chan struct{}, 1),
	}
	var err error
	if s.catalog, err = catalog.Load(); err != nil {
		return nil, fmt.Errorf("loading the catalogue of sizes: %w", err)
	}
	if s.options.Dir == "" {
		s.temporary = true
		if s.options.Dir, err = os.MkdirTemp("", "fakeazure-"); err != nil {
			return nil, fmt.Errorf("making a folder: %w", err)
		}
	}
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	if s.ca, err = authority.Open(s.options.Dir); err != nil {
		return nil, err
	}
	return s, s.load()
}

// Options returns the options with defaults.
func (s *Server) Options() Options {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.options
}

// CAFile is the path of the certificate that clients must trust.
func (s *Server) CAFile() string { return filepath.Join(s.options.Dir, authority.File) }

// ARMEndpoint is the address of ARM.
func (s *Server) ARMEndpoint() string { return "https://" + s.listeners[0].Addr().String() }

// AuthorityHost is the address of Entra.
func (s *Server) AuthorityHost() string { return "https://" + s.listeners[1].Addr().String() + "/" }

// AdminEndpoint is the address of the admin endpoint (plain HTTP).
func (s *Server) AdminEndpoint() string { return "http://" + s.listeners[2].Addr().String() }

// Start listens on the addresses of the options, or on those of an earlier server on the same folder, or on free ports
// of loopback.
func (s *Server) Start() error {
	addresses := s.addresses()
	var hosts []net.IP
	for _, address := range addresses {
		if host, _, err := net.SplitHostPort(address); err == nil {
			hosts = append(hosts, net.ParseIP(host))
		}
	}
	certificate, err := s.ca.Server(nil, hosts...)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return errors.Join(fmt.Errorf("listening: %w", err), s.Stop())
		}
		s.listeners = append(s.listeners, listener)
	}
	s.mutex.Lock()
	err = s.save()
	s.mutex.Unlock()
	if err != nil {
		return errors.Join(err, s.Stop())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	// Handlers need the addresses of all listeners, so serving starts when all exist.
	for i, handler := range []http.Handler{s.arm(), s.entra(), s.admin()} {
		listener := s.listeners[i]
		if i < 2 {
			listener = tls.NewListener(
				listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
			)
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		s.servers = append(s.servers, server)
		s.group.Go(func() { _ = server.Serve(listener) }) // returns when the server is closed
	}
	s.group.Go(func() { s.run(ctx) })
	return nil
}

// addresses are those of ARM, Entra and the admin endpoint.
func (s *Server) addresses() [3]string {
	var known [3]string
	if text, err := os.ReadFile(filepath.Join(s.options.Dir, addressFile)); err == nil {
		_ = json.Unmarshal(text, &known) // no addresses are known without the file
	}
	out := [3]string{s.options.ARMAddress, s.options.EntraAddress, s.options.AdminAddress}
	for i := range out {
		if out[i] == "" {
			out[i] = known[i]
		}
		if out[i] == "" {
			out[i] = "127.0.0.1:0"
		}
	}
	return out
}

// Stop stops the server. A second call does nothing. Its state remains in Options.Dir, unless that is temporary.
func (s *Server) Stop() error {
	var errs []error
	s.stop.Do(func() {
		started := s.cancel != nil
		if started {
			s.cancel()
		}
		for _, server := range s.servers {
			errs = append(errs, server.Close())
		}
		if !started {
			for _, listener := range s.listeners {
				errs = append(errs, listener.Close())
			}
		}
		s.group.Wait()
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if started {
			errs = append(errs, s.save())
		}
		if s.temporary {
			errs = append(errs, os.RemoveAll(s.options.Dir))
		}
	})
	return errors.Join(errs...)
}

// run applies what is due and calls the node side, until ctx ends.
func (s *Server) run(ctx context.Context) {
	for {
		var again <-chan time.Time
		if s.pass(ctx) {
			again = time.After(tellAgain)
		}
		s.mutex.Lock()
		due := s.nextDue()
		s.mutex.Unlock()
		timer := s.options.Clock.NewTimer(max(due.Sub(s.now()), time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
			timer.Stop()
		case <-again:
			timer.Stop()
		case <-timer.C():
		}
	}
}

// Settle returns when everything that is due has happened and the node side knows. It fails when ctx ends before. A
// test that controls the clock then knows the state of the cloud and the cluster.
func (s *Server) Settle(ctx context.Context) error {
	for s.pass(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("telling the node side: %w", ctx.Err())
		case <-time.After(tellAgain / 10):
		}
	}
	return nil
}

// pass applies everything that is due and calls the node side. It returns true if a call has failed.
func (s *Server) pass(ctx context.Context) (left bool) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mutex.Lock()
	s.advance()
	s.keep()
	events := slices.Clone(s.pending)
	s.mutex.Unlock()
	if len(events) == 0 {
		return false
	}
	failed := s.tell(ctx, events)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	// Only now are the calls dropped, so that a restarted process repeats them.
	s.pending = append(failed, s.pending[len(events):]...)
	s.dirty = s.dirty || len(failed) < len(events)
	s.keep()
	return len(failed) > 0
}

// keep saves the state if it has changed. The caller holds the mutex.
func (s *Server) keep() {
	if s.dirty {
		_ = s.save() // a failed save only matters for a restart
	}
}

// tellAgain is the time after which a failed call of the node side is repeated, in real time.
const tellAgain = 500 * time.Millisecond

type nodeEvent struct {
	VM    VM   `json:"vm"`
	Leave bool `json:"leave,omitempty"`
}

func (s *Server) now() time.Time { return s.options.Clock.Now() }

// poke makes run check the clock again.
func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
