// SPDX-License-Identifier: Apache-2.0

// Package scrape asks running pods how far they are, beside the reconciler: a pod has no token with which it could say
// so to the API server, and the reconciler waits for nobody. What is new is handed on as an event.
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
	// timeout of one question: a pod in the same cluster answers in milliseconds, or a policy keeps us from it.
	timeout = 3 * time.Second
	// parallel questions.
	parallel = 16
	// maxBytes of an answer's body, and of its headers: a user chooses what the pod sends. A line has below 1 KiB.
	maxBytes = 64 << 10
)

// target is one pod.
type target struct {
	pod types.UID
	url string
}

// Scraper remembers the newest line of each TuningJob's running pod.
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

// New makes a scraper that asks every interval and calls notify, which must not block, when a TuningJob's line is new.
func New(clk clock.WithTicker, interval time.Duration, notify func(types.NamespacedName)) *Scraper {
	return &Scraper{
		client: newClient(2 * interval),
		clock:  clk, interval: interval, notify: notify,
		targets: map[types.NamespacedName]target{}, latest: map[types.NamespacedName]answer{},
	}
}

// newClient makes a client that asks the address it is given and no other: no proxy, and no redirect. A pod that could
// redirect the operator could have it send requests to addresses that only the operator may reach. The client keeps a
// connection for idle.
func newClient(idle time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout, // of the whole answer, with its body
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1, IdleConnTimeout: idle,
			MaxResponseHeaderBytes: maxBytes, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// NeedLeaderElection keeps replicas that only wait from asking.
func (s *Scraper) NeedLeaderElection() bool { return true }

// Start asks until the context ends. An interval of 0 asks nobody.
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

// Track asks a pod from now on. The port is the one that steps serve progress at.
func (s *Scraper) Track(key types.NamespacedName, pod types.UID, ip string, port int) {
	if ip == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[key] = target{pod: pod, url: "http://" + net.JoinHostPort(ip, strconv.Itoa(port)) + "/progress"}
}

// Forget a TuningJob.
func (s *Scraper) Forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.targets, key)
	delete(s.latest, key)
}

// Latest is the newest line of a pod, nil if it has said none.
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
			// A pod that doesn't answer has said nothing new; its status still tells what it is at.
			if line, err := s.get(ctx, t.url); err == nil && s.keep(key, t.pod, line) {
				s.notify(key)
			}
			return nil
		})
	}
	_ = g.Wait() // no question returns an error
}

// keep remembers a line and tells whether it is new. Its time alone is not news.
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
		return message.Line{}, fmt.Errorf("asking for progress: %w", err)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return message.Line{}, fmt.Errorf("asking for progress: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return message.Line{}, fmt.Errorf("asking for progress: status %d", res.StatusCode)
	}
	return Parse(io.LimitReader(res.Body, maxBytes))
}

// Parse reads a progress line.
func Parse(r io.Reader) (message.Line, error) {
	var line message.Line
	if err := json.NewDecoder(r).Decode(&line); err != nil {
		return message.Line{}, fmt.Errorf("reading a progress line: %w", err)
	}
	return line, nil
}
