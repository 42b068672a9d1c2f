// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"kaito.sh/tuning-operator/internal/message"
)

const (
	// timeout of one request. A pod in the same cluster answers in milliseconds unless a network policy blocks it.
	timeout = 3 * time.Second
	// parallel is the number of concurrent requests.
	parallel = 16
	// maxBytes limits the body and the headers of an answer, because users control what the pod sends. A line has less
	// than 1 KiB.
	maxBytes = 64 << 10
)

// target is a pod to request.
type target struct {
	pod types.UID
	url string
}

// Scraper keeps the latest progress line of each TuningJob's running pod.
type Scraper struct {
	client   *http.Client
	clock    clock.WithTicker
	interval time.Duration
	notify   func(types.NamespacedName)

	mu      sync.Mutex
	targets map[types.NamespacedName]target
	latest  map[types.NamespacedName]answer
}

type answer struct {
	pod  types.UID
	line message.Line
}

// New returns a Scraper that sends requests every interval. An interval of 0 sends none. It calls notify, which must
// not block, when a TuningJob has a new line.
func New(clk clock.WithTicker, interval time.Duration, notify func(types.NamespacedName)) *Scraper {
	return &Scraper{
		client: newClient(2 * interval),
		clock:  clk, interval: interval, notify: notify,
		targets: map[types.NamespacedName]target{}, latest: map[types.NamespacedName]answer{},
	}
}

// newClient returns a client that uses no proxy and follows no redirect. A redirect could make the operator send
// requests to addresses that only the operator may reach. The client keeps connections for the duration idle.
func newClient(idle time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout, // includes the body
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1, IdleConnTimeout: idle,
			MaxResponseHeaderBytes: maxBytes, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// NeedLeaderElection returns true: only the leader sends requests.
func (s *Scraper) NeedLeaderElection() bool { return true }

// Start sends requests until the context ends.
func (s *Scraper) Start(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	if s.interval <= 0 {
		<-ctx.Done()
		return nil
	}
	ticker := s.clock.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			s.round(ctx)
		}
	}
}

// Track sends requests to a pod until Forget. port is the port at which steps serve progress.
func (s *Scraper) Track(key types.NamespacedName, pod types.UID, ip string, port int) {
	if ip == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[key] = target{pod: pod, url: "http://" + net.JoinHostPort(ip, strconv.Itoa(port)) + "/progress"}
}

// Forget stops the requests for a TuningJob and deletes its line.
func (s *Scraper) Forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.targets, key)
	delete(s.latest, key)
}

// Latest returns the latest line of a pod, or nil.
func (s *Scraper) Latest(key types.NamespacedName, pod types.UID) *message.Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.latest[key]
	if !ok || a.pod != pod {
		return nil
	}
	return &a.line
}

func (s *Scraper) round(ctx context.Context) {
	s.mu.Lock()
	ask := make(map[types.NamespacedName]target, len(s.targets))
	for k, t := range s.targets {
		ask[k] = t
	}
	s.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(parallel)
	for key, t := range ask {
		g.Go(func() error {
			// Errors are ignored: the pod's status still shows its step.
			if line, err := s.get(ctx, t.url); err == nil && s.keep(key, t.pod, line) {
				s.notify(key)
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
}

// keep stores a line and returns whether it is new. A line that differs only in its time is not new.
func (s *Scraper) keep(key types.NamespacedName, pod types.UID, line message.Line) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.targets[key].pod != pod {
		return false
	}
	old, had := s.latest[key]
	if had && old.pod == pod {
		same := old.line
		same.Time = line.Time
		if reflect.DeepEqual(same, line) {
			return false
		}
	}
	s.latest[key] = answer{pod: pod, line: line}
	return true
}

func (s *Scraper) get(ctx context.Context, url string) (message.Line, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return message.Line{}, fmt.Errorf("requesting progress: %w", err)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return message.Line{}, fmt.Errorf("requesting progress: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return message.Line{}, fmt.Errorf("requesting progress: status %d", res.StatusCode)
	}
	return Parse(io.LimitReader(res.Body, maxBytes))
}

// Parse decodes a progress line.
func Parse(r io.Reader) (message.Line, error) {
	var line message.Line
	if err := json.NewDecoder(r).Decode(&line); err != nil {
		return message.Line{}, fmt.Errorf("reading a progress line: %w", err)
	}
	return line, nil
}
