// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"math"
	"net/http"
	"time"
)

// bucket is a token bucket on the cloud's clock.
type bucket struct {
	tokens float64
	last   time.Time
}

// throttle takes a token for a call, or returns AKS's error if there is none. The caller holds the mutex.
func (s *Server) throttle(r Request) *apiError {
	l := s.options.Limits
	if l.Off {
		return nil
	}
	name, burst, every := "other", l.OtherBurst, l.OtherEvery
	switch r.Verb {
	case "putPool":
		name, burst, every = "put/"+r.Pool, l.PutBurst, l.PutEvery
	case "operation", "operationResult":
		name, burst, every = "status", l.StatusBurst, l.StatusEvery
	}
	now := s.now()
	b := s.buckets[name]
	if b == nil {
		b = &bucket{tokens: float64(burst), last: now}
		s.buckets[name] = b
	}
	b.tokens = math.Min(float64(burst), b.tokens+float64(now.Sub(b.last))/float64(every))
	b.last = now
	if b.tokens >= 1 {
		b.tokens--
		return nil
	}
	s.throttled++
	wait := int(math.Ceil((1 - b.tokens) * every.Seconds()))
	return &apiError{HTTP: http.StatusTooManyRequests, Code: "Throttled", RetryAfter: max(wait, 1), AKS: true,
		Message: fmt.Sprintf("The request is throttled, please retry again in %d seconds.", max(wait, 1))}
}
