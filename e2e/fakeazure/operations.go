// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// pollEvery is the Retry-After of a running operation.
const pollEvery = 1

// start starts an operation on a pool.
func (s *Server) start(p *pool, kind string, takes time.Duration) *operation {
	s.serial++
	now := s.now()
	op := &operation{
		ID:     fmt.Sprintf("00000000-0000-0000-0001-%012d", s.serial),
		Pool:   p.Name,
		Kind:   kind,
		Start:  now,
		Due:    now.Add(takes),
		Status: operationRunning,
	}
	s.operations[op.ID] = op
	p.Operation = op.ID
	p.ETag++
	return op
}

// begin starts an operation on a pool and responds with the URL of its status.
func (s *Server) begin(c *call, p *pool, kind string, takes time.Duration) *operation {
	op := s.start(p, kind, takes)
	op.Hangs = s.matchHang(c.Request, p) != nil
	if f := s.matchResult(c.Request, p); f != nil {
		op.Fails, op.Hangs = f.Error, op.Hangs || f.Hang
		op.missing = f.missing
	}
	base := fmt.Sprintf(
		"https://%s/subscriptions/%s/providers/Microsoft.ContainerService/locations/%s/",
		c.r.Host,
		s.options.SubscriptionID,
		s.options.Location,
	)
	header := c.w.Header()
	header.Set("Azure-AsyncOperation", base+"operations/"+op.ID+"?api-version=2025-02-01")
	header.Set("Location", base+"operationresults/"+op.ID+"?api-version=2025-02-01")
	header.Set("Retry-After", strconv.Itoa(pollEvery))
	return op
}

func (s *Server) getOperation(c *call) *apiError {
	op := s.operations[c.name]
	if op == nil {
		return &apiError{HTTP: http.StatusNotFound, Code: "NotFound", Message: "The entity was not found."}
	}
	body := map[string]any{"name": op.ID, "status": op.Status, "startTime": op.Start.UTC().Format(time.RFC3339)}
	if op.Status == operationRunning {
		c.w.Header().Set("Retry-After", strconv.Itoa(pollEvery))
	} else {
		body["endTime"] = op.Due.UTC().Format(time.RFC3339)
	}
	if op.Error != nil {
		body["error"] = op.Error
	}
	respond(c.w, http.StatusOK, body)
	return nil
}

func (s *Server) getOperationResult(c *call) *apiError {
	op := s.operations[c.name]
	switch {
	case op == nil:
		return &apiError{HTTP: http.StatusNotFound, Code: "NotFound", Message: "The entity was not found."}
	case op.Status == operationRunning:
		c.w.Header().Set("Retry-After", strconv.Itoa(pollEvery))
		c.w.WriteHeader(http.StatusAccepted)
	default:
		c.w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// advance applies everything that is due. The caller holds the mutex.
func (s *Server) advance() {
	now := s.now()
	s.happen(now)
	for _, name := range s.poolNames() {
		p := s.pools[name]
		if op := s.operations[p.Operation]; op != nil && !op.Hangs && !op.Due.After(now) {
			s.end(p, op)
		}
		if s.pools[name] == nil {
			continue
		}
		for _, m := range p.Machines {
			s.reimaging(p, m, now)
			if !m.Joined && !m.Never && !m.JoinAt.After(now) && s.power == PowerRunning {
				m.Joined, s.dirty = true, true
				s.pending = append(s.pending, nodeEvent{VM: s.vm(p, m)})
			}
		}
	}
}

// end sets the result of an operation.
func (s *Server) end(p *pool, op *operation) {
	p.Operation, s.dirty = "", true
	p.ETag++
	if op.Fails != nil {
		op.Status, op.Error, p.ProvisioningState = operationFailed, op.Fails, stateFailed
		return
	}
	op.Status, p.ProvisioningState = operationSucceeded, stateSucceeded
	switch op.Kind {
	case "Aborting":
		p.ProvisioningState = stateCanceled
	case "Upgrading":
		s.rolled(p, op)
	case "Deleting":
		for len(p.Machines) > 0 {
			s.leave(p, p.Machines[0])
		}
		delete(s.pools, p.Name)
	case "DeletingMachines":
		for _, index := range op.Gone {
			if m := p.find(index); m != nil {
				s.leave(p, m)
				p.Count--
			}
		}
	}
}

// leave removes a machine.
func (s *Server) leave(p *pool, m *machine) {
	p.Machines = slices.DeleteFunc(p.Machines, func(other *machine) bool { return other == m })
	p.haunt(m, s.now())
	if m.Joined {
		s.pending = append(s.pending, nodeEvent{VM: s.vm(p, m), Leave: true})
	}
}

// nextDue returns the time of the next change, or an hour from now.
func (s *Server) nextDue() time.Time {
	next := s.now().Add(time.Hour)
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for _, e := range s.events {
		earlier(e.at)
	}
	for _, p := range s.pools {
		if op := s.operations[p.Operation]; op != nil && !op.Hangs {
			earlier(op.Due)
		}
		for _, m := range p.Machines {
			if at := m.nextReimage(); !at.IsZero() {
				earlier(at)
			}
			if !m.Joined && !m.Never && s.power == PowerRunning {
				earlier(m.JoinAt)
			}
		}
	}
	return next
}
