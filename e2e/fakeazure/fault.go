// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Fault is one line of a script: which calls match, how many of them, and what happens. Empty fields match everything.
type Fault struct {
	// Verb of the call, see Request. token is Entra's; only faults with this verb match it.
	Verb string `json:"verb,omitempty"`
	// Pool, Size (or its quota Family), Spot and Zone of the agent pool. A pool of several zones matches each of them.
	Pool   string `json:"pool,omitempty"`
	Size   string `json:"size,omitempty"`
	Family string `json:"family,omitempty"`
	Spot   *bool  `json:"spot,omitempty"`
	Zone   string `json:"zone,omitempty"`
	// Page is the number of a page, from 1.
	Page int `json:"page,omitempty"`
	// Skip is the number of matching calls that are not affected first; Times is the number that are affected then: 0
	// means all. With NeverJoins, NoGPU and NotReady they count machines.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`

	// Kind is the name of a known error, see Kinds. Error is an error that the script defines.
	Kind  string   `json:"kind,omitempty"`
	Error *Failure `json:"error,omitempty"`
	// Async makes the started operation fail instead of the call. Kinds that Azure reports only in this way set it.
	Async bool `json:"async,omitempty"`
	// Fails is the number of requested machines that are not created, with Async. 0: all.
	Fails int `json:"fails,omitempty"`
	// Drop cuts the connection before or after the request takes effect.
	Drop Verdict `json:"drop,omitempty"`
	// Hang keeps a started operation running until it is aborted.
	Hang bool `json:"hang,omitempty"`
	// NeverJoins, NoGPU and NotReady apply to the Nodes of created machines.
	NeverJoins bool `json:"neverJoins,omitempty"`
	NoGPU      bool `json:"noGPU,omitempty"`
	NotReady   bool `json:"notReady,omitempty"`

	// Empty answers a list with 200 and no entries. Short omits the last entries, as many as its value. Both apply to
	// listMachines and listPools.
	Empty bool `json:"empty,omitempty"`
	Short int  `json:"short,omitempty"`
	// NoResourceID omits the resourceId of the first entries of a list of machines, as many as its value.
	NoResourceID int `json:"noResourceID,omitempty"`

	seen int
}

// Failure is an error that a script defines.
type Failure struct {
	// HTTP is the status. 0: 400.
	HTTP    int    `json:"http,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Subcode string `json:"subcode,omitempty"`
	// RetryAfter is in seconds.
	RetryAfter int `json:"retryAfter,omitempty"`
	// ARM wraps the error in ARM's envelope. AKS's own errors have none.
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

// AddFault adds a line to the script. It panics if the line is invalid.
func (s *Server) AddFault(f Fault) {
	if err := f.validate(); err != nil {
		panic("fakeazure: " + err.Error())
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults removes all lines from the script.
func (s *Server) ClearFaults() { s.act(Event{ClearFaults: true}) }

// met is a line that matches a call, with its error in Azure's form.
type met struct {
	*Fault
	Error *apiError
}

// missing returns how many of the requested machines are not created.
func (m met) missing(wanted int) int {
	if m.Fails == 0 {
		return wanted
	}
	return min(m.Fails, wanted)
}

// take returns the first line that matches. The caller holds the mutex. p is the call's pool, or nil.
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

// verbToken is the verb of Entra's token endpoint.
const verbToken = "token"

// match returns the fault of the call itself.
func (s *Server) match(r Request, p *pool) *met {
	return s.take(r, p, func(f *Fault) bool { return f.fails() && !f.async() || f.Drop != Serve })
}

// matchResult returns the fault that an operation ends with.
func (s *Server) matchResult(r Request, p *pool) *met {
	return s.take(r, p, (*Fault).async)
}

// matchHang returns the fault of an operation that does not end.
func (s *Server) matchHang(r Request, p *pool) *met {
	return s.take(r, p, func(f *Fault) bool { return f.Hang && !f.async() })
}

// matchMachine returns the fault of a machine. The call is the PUT that creates it.
func (s *Server) matchMachine(p *pool) *met {
	return s.take(Request{Verb: "putPool", Pool: p.Name}, p, (*Fault).ofNodes)
}

// UnmarshalJSON reads "before" and "after".
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

// MarshalJSON writes "before" and "after".
func (v Verdict) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[Verdict]string{DropBefore: "before", DropAfter: "after"}[v])
}
