package fakeazure

import "strings"

// Fault is one line of a script: whom it meets, how often, and what happens. Empty fields meet everything.
type Fault struct {
	// Verb and Pool of the call; Size, Spot and Zone of the pool.
	Verb string `json:"verb,omitempty"`
	Pool string `json:"pool,omitempty"`
	Size string `json:"size,omitempty"`
	Spot *bool  `json:"spot,omitempty"`
	// Skip lets so many matching calls pass first; Times is how many are met then: 0 means all.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`

	// Error is answered at once; with Async it is what the started operation ends with.
	Error *Failure `json:"error,omitempty"`
	Async bool     `json:"async,omitempty"`
	// Fails is how many of the machines asked for do not come, with Async; 0: all.
	Fails int `json:"fails,omitempty"`
	// Drop cuts the connection: 1 before the request took effect, 2 after.
	Drop Verdict `json:"drop,omitempty"`
	// Hang keeps a started operation from ending until it is aborted.
	Hang bool `json:"hang,omitempty"`
	// NeverJoins, NoGPU and NotReady are about the Nodes of the machines that are made.
	NeverJoins bool `json:"neverJoins,omitempty"`
	NoGPU      bool `json:"noGPU,omitempty"`
	NotReady   bool `json:"notReady,omitempty"`

	seen int
}

// Failure is an error of a script.
type Failure struct {
	HTTP       int    `json:"http,omitempty"`
	Code       string `json:"code"`
	Message    string `json:"message"`
	Subcode    string `json:"subcode,omitempty"`
	RetryAfter int    `json:"retryAfter,omitempty"`
	// ARM wraps the error in ARM's envelope; AKS's own errors have none.
	ARM bool `json:"arm,omitempty"`
}

func (f *Failure) apiError() *apiError {
	status := f.HTTP
	if status == 0 {
		status = 400
	}
	return &apiError{HTTP: status, Code: f.Code, Message: f.Message, Subcode: f.Subcode, RetryAfter: f.RetryAfter, AKS: !f.ARM}
}

// fault is a matched line with its error in Azure's form.
type fault struct {
	*Fault
	Error *apiError
}

func (f fault) fails(wanted int) int {
	if f.Fault.Fails == 0 {
		return wanted
	}
	return min(f.Fault.Fails, wanted)
}

// AddFault adds a line to the script.
func (s *Server) AddFault(f Fault) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults empties the script.
func (s *Server) ClearFaults() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.faults = nil
}

// take finds the first line that meets; the caller holds the mutex.
func (s *Server) take(r Request, p *pool, want func(*Fault) bool) *fault {
	for _, f := range s.faults {
		switch {
		case !want(f), f.Verb != "" && f.Verb != r.Verb, f.Pool != "" && f.Pool != r.Pool:
			continue
		case f.Size != "" && (p == nil || !strings.EqualFold(f.Size, p.text("vmSize"))):
			continue
		case f.Spot != nil && (p == nil || *f.Spot != p.spot()):
			continue
		}
		f.seen++
		if f.seen <= f.Skip || f.Times > 0 && f.seen > f.Skip+f.Times {
			continue
		}
		out := &fault{Fault: f}
		if f.Error != nil {
			out.Error = f.Error.apiError()
		}
		return out
	}
	return nil
}

// match is for what happens to the call itself.
func (s *Server) match(r Request) *fault {
	return s.take(r, s.pools[r.Pool], func(f *Fault) bool { return (f.Error != nil && !f.Async) || f.Drop != Serve })
}

// matchAllocation is for machines that do not come.
func (s *Server) matchAllocation(r Request, p *pool) *fault {
	return s.take(r, p, func(f *Fault) bool { return f.Async && f.Error != nil })
}

// matchOperation is for operations that do not end.
func (s *Server) matchOperation(r Request, p *pool) *fault {
	return s.take(r, p, func(f *Fault) bool { return f.Hang && !f.Async })
}

// matchMachine is for machines that do not become what they should; Skip and Times count machines.
func (s *Server) matchMachine(p *pool) *fault {
	return s.take(Request{Verb: "boot", Pool: p.Name}, p, func(f *Fault) bool { return f.NeverJoins || f.NoGPU || f.NotReady })
}

// RemovePool is somebody else who deletes a pool behind its owner's back.
func (s *Server) RemovePool(name string) {
	s.mutex.Lock()
	if p := s.pools[name]; p != nil {
		for len(p.Machines) > 0 {
			s.leave(p, p.Machines[0])
		}
		delete(s.pools, name)
		s.dirty = true
	}
	s.mutex.Unlock()
	s.poke()
}

// Evict takes a machine away as Azure does with spot machines, or as a failure of its host.
func (s *Server) Evict(providerID string) {
	s.mutex.Lock()
	for _, p := range s.pools {
		for _, m := range p.Machines {
			if s.vm(p, m).ProviderID == providerID {
				s.leave(p, m)
				p.Count--
				s.dirty = true
				break
			}
		}
	}
	s.mutex.Unlock()
	s.poke()
}

// AddForeignPool puts a pool into the cluster that is somebody else's, with Nodes of its own.
func (s *Server) AddForeignPool(name, size string, count int, tags map[string]string) {
	s.mutex.Lock()
	p := &pool{Name: name, Properties: map[string]any{"vmSize": size, "mode": "User", "osType": "Linux"}, Tags: tags, Count: count, ProvisioningState: stateSucceeded, ETag: 1}
	for range count {
		s.boot(p)
		m := p.Machines[len(p.Machines)-1]
		m.Listed, m.JoinAt = s.now(), s.now()
	}
	s.pools[name] = p
	s.dirty = true
	s.mutex.Unlock()
	s.poke()
}
