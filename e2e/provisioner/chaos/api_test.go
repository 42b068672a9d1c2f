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

// verdict says what becomes of a call.
type verdict int

const (
	serve     verdict = iota
	dieBefore         // the process is killed, and the call has no effect
	dieAfter          // the process is killed, and the call has taken effect
)

// api stands between the operator and the API server. It tells of every write before it is made, hands out commands,
// and has the API server's stamps say what the test's clock says: the server knows the real time only.
type api struct {
	clock    *clocktesting.FakeClock
	upstream *url.URL
	through  http.RoundTripper
	server   *http.Server
	address  string
	// onWrite decides about a write, by its verb and path.
	onWrite func(what string) verdict

	mu sync.Mutex
	// lines are to each process that was ever started: one that was killed may still seem to be waiting for a command.
	lines  []*line
	stamps map[string]*stamp
	// claims are all NodeClaims ever seen, as they were last.
	claims map[types.UID]karpv1.NodeClaim
}

type stamp struct{ created, deleted string }

// line is how a process is talked to.
type line struct {
	commands chan command
	results  chan result
}

// command and result are the stepper's.
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
	go func() { _ = a.server.Serve(listener) }() // ends with Close
	return a, nil
}

const controlPath = "/-/control/"

// line opens a line to a process that is about to start, and says at which URL.
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
		panic(http.ErrAbortHandler) // the process was killed while it spoke
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
			_ = json.NewEncoder(w).Encode(c) // a process that is gone is seen by who waits for its result
		case <-r.Context().Done():
		}
		return
	}
	var out result
	_ = json.Unmarshal(body, &out) // the stepper wrote it
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
	// Whoever asked may be dead by now; the call goes on.
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
	defer func() { _ = response.Body.Close() }() // only read
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
	_, _ = w.Write(a.translate(answer)) // as above
}

// epoch is when the test's clock begins; the real one is years ahead, so that a stamp tells whose it is.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func realStamp(text string) bool {
	t, err := time.Parse(time.RFC3339, text)
	return err == nil && t.After(epoch.AddDate(3, 0, 0))
}

func (a *api) now() string { return a.clock.Now().UTC().Format(time.RFC3339) }

// restamp has conditions that were stamped by the real clock say what the test's clock says.
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

// translate has objects say that they came and were deleted when the test's clock said so, and remembers NodeClaims.
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

// gone are the NodeClaims that are no more.
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
		panic(err) // it was JSON
	}
	return raw
}
