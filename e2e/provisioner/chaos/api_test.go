// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// verdict is what happens to a call.
type verdict int

const (
	serve     verdict = iota
	dieBefore         // the process is killed before the call takes effect
	dieAfter          // the process is killed after the call has taken effect
)

// api is a proxy between the operator and the API server. It calls onWrite before each write, sends commands, and
// replaces the API server's timestamps, which are in real time, by those of the test's clock.
type api struct {
	clock    *clocktesting.FakeClock
	upstream *url.URL
	through  http.RoundTripper
	server   *http.Server
	address  string
	// onWrite decides about a write by its verb and path.
	onWrite func(what string) verdict

	mu sync.Mutex
	// lines are the connections to all processes that were started: a killed one may still seem to wait for a command.
	lines  []*line
	stamps map[string]*stamp
	// claims are all NodeClaims so far, with their last state.
	claims map[types.UID]karpv1.NodeClaim
}

type stamp struct{ created, deleted string }

// line is the connection to a process.
type line struct {
	commands chan command
	results  chan result
}

// command and result are those of the stepper.
type command struct {
	Now    time.Time `json:"now"`
	Steps  []string  `json:"steps"`
	Stale  bool      `json:"stale,omitempty"`
	Frozen bool      `json:"frozen,omitempty"`
}

type result struct {
	Errors []string `json:"errors,omitempty"`
}

func newAPI(clock *clocktesting.FakeClock, onWrite func(string) verdict) (*api, error) {
	upstream, _, err := rest.DefaultServerUrlFor(shared.operator)
	if err != nil {
		return nil, err
	}
	through, err := rest.TransportFor(shared.operator)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &api{
		clock: clock, upstream: upstream, through: through, address: "http://" + listener.Addr().String(), onWrite: onWrite,
		stamps: map[string]*stamp{}, claims: map[types.UID]karpv1.NodeClaim{},
	}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = a.server.Serve(listener) }() // returns after Close
	return a, nil
}

const controlPath = "/-/control/"

// line opens a connection for a process that is about to start, and returns its URL.
func (a *api) line() (*line, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &line{commands: make(chan command), results: make(chan result)}
	a.lines = append(a.lines, l)
	return l, a.address + controlPath + strconv.Itoa(len(a.lines)-1)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the process was killed during the exchange
	}
	number, controlled := strings.CutPrefix(r.URL.Path, controlPath)
	if !controlled {
		a.forward(w, r, body)
		return
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	a.mu.Lock()
	l := a.lines[n]
	a.mu.Unlock()
	if r.Method == http.MethodGet {
		select {
		case c := <-l.commands:
			_ = json.NewEncoder(w).Encode(c) // the caller that waits for the result notices a killed process
		case <-r.Context().Done():
		}
		return
	}
	var out result
	_ = json.Unmarshal(body, &out) // the stepper wrote valid JSON
	l.results <- out
}

func (a *api) forward(w http.ResponseWriter, r *http.Request, body []byte) {
	fate := serve
	if r.Method != http.MethodGet {
		fate = a.onWrite(r.Method + " " + strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"), "/api/"))
		body = a.restamp(body)
	}
	if fate == dieBefore {
		panic(http.ErrAbortHandler)
	}
	to := *r.URL
	to.Scheme, to.Host = a.upstream.Scheme, a.upstream.Host
	// The client may be dead, but the call continues.
	request, err := http.NewRequestWithContext(
		context.WithoutCancel(r.Context()), r.Method, to.String(), bytes.NewReader(body),
	)
	if err != nil {
		panic(err)
	}
	for _, key := range []string{"Content-Type", "Accept"} {
		request.Header.Set(key, r.Header.Get(key))
	}
	response, err := a.through.RoundTrip(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = response.Body.Close() }() // only for reading
	answer, err := io.ReadAll(response.Body)
	if err != nil || fate == dieAfter {
		panic(http.ErrAbortHandler)
	}
	for _, key := range []string{"Content-Type", "Retry-After"} {
		if v := response.Header.Get(key); v != "" {
			w.Header().Set(key, v)
		}
	}
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(a.translate(answer)) // the client may be dead
}

// epoch is the start of the test's clock. The real clock is years ahead, which distinguishes the two.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func realStamp(text string) bool {
	t, err := time.Parse(time.RFC3339, text)
	return err == nil && t.After(epoch.AddDate(3, 0, 0))
}

func (a *api) now() string { return a.clock.Now().UTC().Format(time.RFC3339) }

// restamp replaces timestamps of the real clock in conditions by the time of the test's clock.
func (a *api) restamp(body []byte) []byte {
	var value any
	if json.Unmarshal(body, &value) != nil {
		return body
	}
	walk(value, func(o map[string]any) {
		for _, key := range []string{"lastTransitionTime", "lastHeartbeatTime"} {
			if text, ok := o[key].(string); ok && realStamp(text) {
				o[key] = a.now()
			}
		}
	})
	return encode(value)
}

// translate replaces the creation and deletion timestamps of objects by those of the test's clock, and records
// NodeClaims.
func (a *api) translate(answer []byte) []byte {
	var value any
	if json.Unmarshal(answer, &value) != nil {
		return answer
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	walk(value, func(o map[string]any) {
		meta, ok := o["metadata"].(map[string]any)
		uid, _ := meta["uid"].(string)
		if !ok || uid == "" {
			return
		}
		delete(meta, "managedFields")
		s := a.stamps[uid]
		if s == nil {
			s = &stamp{created: a.now()}
			a.stamps[uid] = s
		}
		meta["creationTimestamp"] = s.created
		if meta["deletionTimestamp"] != nil {
			if s.deleted == "" {
				s.deleted = a.now()
			}
			meta["deletionTimestamp"] = s.deleted
		}
		if spec, _ := o["spec"].(map[string]any); spec["nodeClassRef"] != nil {
			var claim karpv1.NodeClaim
			if json.Unmarshal(encode(o), &claim) == nil {
				a.claims[claim.UID] = claim
			}
		}
	})
	return encode(value)
}

// gone returns the NodeClaims that no longer exist.
func (a *api) gone(left []karpv1.NodeClaim) []karpv1.NodeClaim {
	a.mu.Lock()
	defer a.mu.Unlock()
	there := map[types.UID]bool{}
	for i := range left {
		there[left[i].UID] = true
	}
	var out []karpv1.NodeClaim
	for uid := range a.claims {
		if !there[uid] {
			out = append(out, a.claims[uid])
		}
	}
	return out
}

func walk(value any, visit func(map[string]any)) {
	switch v := value.(type) {
	case map[string]any:
		visit(v)
		for _, child := range v {
			walk(child, visit)
		}
	case []any:
		for _, child := range v {
			walk(child, visit)
		}
	}
}

func encode(value any) []byte {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // it was valid JSON
	}
	return raw
}
