// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Fault is one line of a script: whom it meets, how often, and what happens. Empty fields meet everything.
type Fault struct {
	// Verb of the call, see Request; token is Entra's, which only a line that names it meets.
	Verb string `json:"verb,omitempty"`
	// Pool, Size (or its quota Family), Spot and Zone of the agent pool; a pool of several zones is in each of them.
	Pool   string `json:"pool,omitempty"`
	Size   string `json:"size,omitempty"`
	Family string `json:"family,omitempty"`
	Spot   *bool  `json:"spot,omitempty"`
	Zone   string `json:"zone,omitempty"`
	// Page of a list, from 1.
	Page int `json:"page,omitempty"`
	// Skip lets so many matching calls pass first; Times is how many are met then: 0 means all. With NeverJoins, NoGPU and
	// NotReady they count machines.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`

	// Kind is an error of the taxonomy by its name, see Kinds; Error is one that the script spells out.
	Kind  string   `json:"kind,omitempty"`
	Error *Failure `json:"error,omitempty"`
	// Async has the error not answered at once: it is what the started operation ends with. Kinds that Azure tells no
	// other way set it by themselves.
	Async bool `json:"async,omitempty"`
	// Fails is how many of the machines asked for do not come, with Async; 0: all.
	Fails int `json:"fails,omitempty"`
	// Drop cuts the connection: before the request took effect, or after.
	Drop Verdict `json:"drop,omitempty"`
	// Hang keeps a started operation from ending until it is aborted.
	Hang bool `json:"hang,omitempty"`
	// NeverJoins, NoGPU and NotReady are about the Nodes of the machines that are made.
	NeverJoins bool `json:"neverJoins,omitempty"`
	NoGPU      bool `json:"noGPU,omitempty"`
	NotReady   bool `json:"notReady,omitempty"`

	// Empty has a list be answered with 200 and nothing in it, Short with its last so many entries left out. They are for
	// listMachines and listPools.
	Empty bool `json:"empty,omitempty"`
	Short int  `json:"short,omitempty"`
	// NoResourceID has the first so many entries of a list of machines come without their resourceId.
	NoResourceID int `json:"noResourceID,omitempty"`

	seen int
}

// Failure is an error of a script.
type Failure struct {
	// HTTP status; 0: 400.
	HTTP    int    `json:"http,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Subcode string `json:"subcode,omitempty"`
	// RetryAfter in seconds.
	RetryAfter int `json:"retryAfter,omitempty"`
	// ARM wraps the error in ARM's envelope; AKS's own errors have none.
	ARM bool `json:"arm,omitempty"`
}

func (f *Failure) apiError() *apiError {
	status := f.HTTP
	if status == 0 {
		status = 400
	}
	return &apiError{
		HTTP:       status,
		Code:       f.Code,
		Message:    f.Message,
		Subcode:    f.Subcode,
		RetryAfter: f.RetryAfter,
		AKS:        !f.ARM,
	}
}

var verbs = []string{
	"",
	"getCluster",
	"listPools",
	"getPool",
	"putPool",
	"deletePool",
	"deleteMachines",
	"abort",
	"listMachines",
	"getMachine",
	"operation",
	"operationResult",
	"listUsages",
	"listSKUs",
	"token",
}

func (f *Fault) validate() error {
	_, known := taxonomy[f.Kind]
	fails := f.Kind != "" || f.Error != nil
	switch {
	case !slices.Contains(verbs, f.Verb):
		return fmt.Errorf("verb %q is not one of%s", f.Verb, strings.Join(verbs, " "))
	case f.Kind != "" && !known:
		return fmt.Errorf("kind %q is not one of %s", f.Kind, strings.Join(Kinds(), ", "))
	case f.Kind != "" && f.Error != nil:
		return fmt.Errorf("kind %q and error %q are both set; it must be one", f.Kind, f.Error.Code)
	case f.Async && !fails:
		return fmt.Errorf("async is set without an error")
	case f.Fails != 0 && !f.async():
		return fmt.Errorf("fails is %d without an error that an operation ends with", f.Fails)
	case f.Short < 0 || f.NoResourceID < 0:
		return fmt.Errorf("short %d and noResourceID %d must not be negative", f.Short, f.NoResourceID)
	case f.Skip < 0 || f.Times < 0 || f.Fails < 0 || f.Page < 0:
		return fmt.Errorf("skip %d, times %d, fails %d and page %d must not be negative", f.Skip, f.Times, f.Fails, f.Page)
	case !fails && f.Drop == Serve && !f.Hang && !f.ofNodes() && !f.ofLists():
		return fmt.Errorf(
			"nothing happens; set one of kind, error, drop, hang, neverJoins, noGPU, notReady, empty, short, noResourceID",
		)
	}
	return nil
}

func (f *Fault) async() bool {
	return f.Async && (f.Error != nil || f.Kind != "") || taxonomy[f.Kind].async
}

func (f *Fault) fails() bool   { return f.Error != nil || f.Kind != "" }
func (f *Fault) ofLists() bool { return f.Empty || f.Short > 0 || f.NoResourceID > 0 }
func (f *Fault) ofNodes() bool { return f.NeverJoins || f.NoGPU || f.NotReady }

// AddFault adds a line to the script. A line that cannot be played is a mistake of the program, and panics.
func (s *Server) AddFault(f Fault) {
	if err := f.validate(); err != nil {
		panic("fakeazure: " + err.Error())
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults empties the script.
func (s *Server) ClearFaults() { s.act(Event{ClearFaults: true}) }

// met is a line that meets a call, with its error in Azure's form.
type met struct {
	*Fault
	Error *apiError
}

// missing is how many of the machines asked for do not come.
func (m met) missing(wanted int) int {
	if m.Fails == 0 {
		return wanted
	}
	return min(m.Fails, wanted)
}

// take finds the first line that meets; the caller holds the mutex. p is the call's pool, which may be nil.
func (s *Server) take(r Request, p *pool, want func(*Fault) bool) *met {
	for _, f := range s.faults {
		if !want(f) || !s.meets(f, r, p) {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || f.Times > 0 && f.seen > f.Skip+f.Times {
			continue
		}
		out := &met{Fault: f}
		switch {
		case f.Error != nil:
			out.Error = f.Error.apiError()
		case f.Kind != "":
			out.Error = s.failure(f.Kind, r, p)
		}
		return out
	}
	return nil
}

func (s *Server) meets(f *Fault, r Request, p *pool) bool {
	switch {
	case f.Verb != r.Verb && (f.Verb != "" || r.Verb == verbToken),
		f.Pool != "" && f.Pool != r.Pool,
		f.Page != 0 && f.Page != r.Page:
		return false
	case f.Size == "" && f.Family == "" && f.Spot == nil && f.Zone == "":
		return true
	case p == nil:
		return false
	}
	return (f.Size == "" || strings.EqualFold(f.Size, p.text("vmSize"))) &&
		(f.Family == "" || strings.EqualFold(f.Family, s.family(p))) &&
		(f.Spot == nil || *f.Spot == p.spot()) &&
		(f.Zone == "" || slices.Contains(p.texts("availabilityZones"), f.Zone))
}

// verbToken is Entra's.
const verbToken = "token"

// match is for what happens to the call itself.
func (s *Server) match(r Request, p *pool) *met {
	return s.take(r, p, func(f *Fault) bool { return f.fails() && !f.async() || f.Drop != Serve })
}

// matchResult is for what an operation ends with.
func (s *Server) matchResult(r Request, p *pool) *met {
	return s.take(r, p, (*Fault).async)
}

// matchHang is for operations that do not end.
func (s *Server) matchHang(r Request, p *pool) *met {
	return s.take(r, p, func(f *Fault) bool { return f.Hang && !f.async() })
}

// matchMachine is for machines that do not become what they should; the call is the PUT that makes them.
func (s *Server) matchMachine(p *pool) *met {
	return s.take(Request{Verb: "putPool", Pool: p.Name}, p, (*Fault).ofNodes)
}

// UnmarshalJSON reads before and after.
func (v *Verdict) UnmarshalJSON(text []byte) error {
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return fmt.Errorf("drop %s is not one of before, after", text)
	}
	verdict, ok := map[string]Verdict{"before": DropBefore, "after": DropAfter}[name]
	if !ok {
		return fmt.Errorf("drop %q is not one of before, after", name)
	}
	*v = verdict
	return nil
}

// MarshalJSON is UnmarshalJSON's other way.
func (v Verdict) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[Verdict]string{DropBefore: "before", DropAfter: "after"}[v])
}
