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
	"sync"
	"time"

	"kaito.sh/shared/catalog"
)

// power states of the cluster.
const (
	powerRunning = "Running"
	powerStopped = "Stopped"
)

// Server is the fake cloud.
type Server struct {
	options   Options
	catalog   *catalog.Catalog
	temporary bool
	ca        *authority

	mutex      sync.Mutex
	pools      map[string]*pool
	operations map[string]*operation
	power      string
	tokens     map[string]time.Time
	buckets    map[string]*bucket
	faults     []*Fault
	sequence   int
	serial     int
	calls      map[string]int
	throttled  int
	writes     []Write
	// pending are what the node side has not been told yet, in order.
	pending []nodeEvent

	wake      chan struct{}
	listeners []net.Listener
	servers   []*http.Server
	group     sync.WaitGroup
	cancel    context.CancelFunc
}

// New makes a server, with the state that an earlier one left in Options.Dir.
func New(options Options) (*Server, error) {
	s := &Server{
		options: options.withDefaults(), pools: map[string]*pool{}, operations: map[string]*operation{}, power: powerRunning,
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
	if s.ca, err = openAuthority(s.options.Dir); err != nil {
		return nil, err
	}
	return s, s.load()
}

// Options are what the server runs with, defaults filled in.
func (s *Server) Options() Options { return s.options }

// CAFile is the certificate that clients must trust.
func (s *Server) CAFile() string { return filepath.Join(s.options.Dir, caFile) }

// ARMEndpoint is the address of ARM, AuthorityHost of Entra, AdminEndpoint of the script of faults.
func (s *Server) ARMEndpoint() string { return "https://" + s.listeners[0].Addr().String() }

// AuthorityHost is the address of Entra.
func (s *Server) AuthorityHost() string { return "https://" + s.listeners[1].Addr().String() + "/" }

// AdminEndpoint is the address that faults are set at and the state is read from, plain http.
func (s *Server) AdminEndpoint() string { return "http://" + s.listeners[2].Addr().String() }

// Start listens on free ports of loopback. A server that is started again takes the addresses it had.
func (s *Server) Start() error {
	certificate, err := s.ca.server()
	if err != nil {
		return err
	}
	addresses := s.addresses()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for i, handler := range []http.Handler{s.arm(), s.entra(), s.admin()} {
		listener, err := net.Listen("tcp", addresses[i])
		if err != nil {
			return errors.Join(fmt.Errorf("listening: %w", err), s.Stop())
		}
		s.listeners = append(s.listeners, listener)
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		s.servers = append(s.servers, server)
		if i < 2 {
			listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		}
		s.group.Go(func() { _ = server.Serve(listener) }) // ends when the server is closed
	}
	s.group.Go(func() { s.run(ctx) })
	return s.save()
}

// addresses are those of an earlier start from the same folder, so that its clients find it again.
func (s *Server) addresses() [3]string {
	out := [3]string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"}
	text, err := os.ReadFile(filepath.Join(s.options.Dir, addressFile))
	if err != nil {
		return out
	}
	var known [3]string
	if json.Unmarshal(text, &known) == nil && known[0] != "" {
		return known
	}
	return out
}

// Stop ends the server. Its state stays in Options.Dir, unless that was temporary.
func (s *Server) Stop() error {
	if s.cancel != nil {
		s.cancel()
	}
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	s.group.Wait()
	if s.temporary {
		errs = append(errs, os.RemoveAll(s.options.Dir))
	}
	return errors.Join(errs...)
}

// run lets time pass: operations end, machines boot and join, and the node side is told, until ctx ends.
func (s *Server) run(ctx context.Context) {
	for {
		s.mutex.Lock()
		s.advance()
		events := s.pending
		s.pending = nil
		due := s.nextDue()
		s.mutex.Unlock()
		failed := s.tell(ctx, events)
		if len(failed) > 0 {
			s.mutex.Lock()
			s.pending = append(failed, s.pending...)
			s.mutex.Unlock()
			due = s.now().Add(tellAgain)
		}
		timer := s.options.Clock.NewTimer(max(due.Sub(s.now()), time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
			timer.Stop()
		case <-timer.C():
		}
	}
}

// tellAgain is how long after a failure the node side is told again.
const tellAgain = 500 * time.Millisecond

type nodeEvent struct {
	vm    VM
	leave bool
}

// tell returns what has to be told again: what failed, and what comes after it about the same machine.
func (s *Server) tell(ctx context.Context, events []nodeEvent) (failed []nodeEvent) {
	waits := map[string]bool{}
	for _, event := range events {
		if waits[event.vm.Name] {
			failed = append(failed, event)
			continue
		}
		tell := s.options.Nodes.Join
		if event.leave {
			tell = s.options.Nodes.Leave
		}
		if err := tell(ctx, event.vm); err != nil {
			failed = append(failed, event)
			waits[event.vm.Name] = true
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
