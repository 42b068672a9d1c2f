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
	lag        time.Duration // of lists of machines
	tokens     map[string]time.Time
	buckets    map[string]*bucket
	faults     []*Fault
	events     []scheduled
	sequence   int
	serial     int
	calls      map[string]int
	throttled  int
	writes     []Write
	// told is what the last GET of the cluster was answered, toldAt when.
	told   PowerState
	toldAt time.Time
	// telling is held by who tells the node side.
	telling sync.Mutex
	// pending are what the node side has not been told yet, in order.
	pending []nodeEvent
	// dirty says that something has changed since the state was saved.
	dirty bool

	wake      chan struct{}
	listeners []net.Listener
	servers   []*http.Server
	group     sync.WaitGroup
	cancel    context.CancelFunc
	stop      sync.Once
}

// New makes a server, with the state that an earlier one left in Options.Dir.
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

// Options are what the server runs with, defaults filled in.
func (s *Server) Options() Options {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.options
}

// CAFile is the certificate that clients must trust.
func (s *Server) CAFile() string { return filepath.Join(s.options.Dir, authority.File) }

// ARMEndpoint is the address of ARM, AuthorityHost of Entra, AdminEndpoint of the script of faults.
func (s *Server) ARMEndpoint() string { return "https://" + s.listeners[0].Addr().String() }

// AuthorityHost is the address of Entra.
func (s *Server) AuthorityHost() string { return "https://" + s.listeners[1].Addr().String() + "/" }

// AdminEndpoint is the address that faults are set at and the state is read from, plain http.
func (s *Server) AdminEndpoint() string { return "http://" + s.listeners[2].Addr().String() }

// Start listens on the addresses of the options, or else on those that an earlier server had on the same folder,
// or else on free ones of loopback.
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
	// Handlers know the listeners' addresses, so that serving begins when there are all.
	for i, handler := range []http.Handler{s.arm(), s.entra(), s.admin()} {
		listener := s.listeners[i]
		if i < 2 {
			listener = tls.NewListener(
				listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
			)
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		s.servers = append(s.servers, server)
		s.group.Go(func() { _ = server.Serve(listener) }) // ends when the server is closed
	}
	s.group.Go(func() { s.run(ctx) })
	return nil
}

// addresses are ARM's, Entra's and the admin's.
func (s *Server) addresses() [3]string {
	var known [3]string
	if text, err := os.ReadFile(filepath.Join(s.options.Dir, addressFile)); err == nil {
		_ = json.Unmarshal(text, &known) // none are known then
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

// Stop ends the server; a second time it does nothing. Its state stays in Options.Dir, unless that was temporary.
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

// run lets time pass: operations end, machines boot and join, and the node side is told, until ctx ends.
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

// Settle returns when everything has happened whose time has come and the node side has been told of it: who holds the
// clock then knows what the cloud and the cluster are. It fails when ctx ends before.
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

// pass lets everything happen whose time has come and tells the node side; true when that did not take all of it.
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
	// What was told is forgotten only now, so that a process that ends in between tells it again.
	s.pending = append(failed, s.pending[len(events):]...)
	s.dirty = s.dirty || len(failed) < len(events)
	s.keep()
	return len(failed) > 0
}

// keep saves what has changed; the caller holds the mutex.
func (s *Server) keep() {
	if s.dirty {
		_ = s.save() // what cannot be kept is lost with a restart only
	}
}

// tellAgain is how long after a failure the node side is told again. It lives in real time, whatever the cloud's clock
// says.
const tellAgain = 500 * time.Millisecond

type nodeEvent struct {
	VM    VM   `json:"vm"`
	Leave bool `json:"leave,omitempty"`
}

// tell returns what has to be told again: what failed, and what comes after it about the same machine.
func (s *Server) tell(ctx context.Context, events []nodeEvent) (failed []nodeEvent) {
	waits := map[string]bool{}
	for _, event := range events {
		if waits[event.VM.Name] {
			failed = append(failed, event)
			continue
		}
		tell := s.options.Nodes.Join
		if event.Leave {
			tell = s.options.Nodes.Leave
		}
		if err := tell(ctx, event.VM); err != nil {
			failed = append(failed, event)
			waits[event.VM.Name] = true
		}
	}
	return failed
}

func (s *Server) now() time.Time { return s.options.Clock.Now() }

// poke has run look at the clock again.
func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
