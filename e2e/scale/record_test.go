// SPDX-License-Identifier: Apache-2.0

package scale_test

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"kaito.sh/e2e/fakeazure"
)

// record is what went over the wire to ARM.
type record struct {
	// refuse adds a fault to the script.
	refuse func(fakeazure.Fault)

	mu    sync.Mutex
	begun []began
	ended []ended
	// refusals are the calls of this phase that are still to be refused: bucket → number of the call in that bucket.
	refusals map[string]int
	seen     map[string]int
}

type began struct {
	fakeazure.Request
	at time.Time
}

type ended struct {
	fakeazure.Answer
	at time.Time
}

// bucket names the documented limit that a call counts against
// (https://learn.microsoft.com/azure/aks/quotas-skus-regions#throttling-limits-on-aks-resource-provider-apis).
func bucket(r fakeazure.Request) string {
	switch r.Verb {
	case "putPool":
		return "PUT of " + r.Pool
	case "operation", "operationResult":
		return "operation status"
	}
	return "other"
}

// retryAfter is the Retry-After of refused calls, in seconds.
const retryAfter = 2

// phase begins to count anew; the calls of those numbers, by verb, will be refused once with 429 and Retry-After.
func (r *record) phase(refusals map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.ended, r.refusals, r.seen = nil, nil, refusals, map[string]int{}
}

func (r *record) asked(request fakeazure.Request) fakeazure.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, began{request, time.Now()})
	r.seen[request.Verb]++
	if r.refusals[request.Verb] == r.seen[request.Verb] {
		r.refuse(fakeazure.Fault{Verb: request.Verb, Pool: request.Pool, Times: 1, Error: &fakeazure.Failure{
			HTTP: http.StatusTooManyRequests, Code: "Throttled", Message: "The request is throttled.", RetryAfter: retryAfter,
		}})
	}
	return fakeazure.Serve
}

func (r *record) answered(answer fakeazure.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, ended{answer, time.Now()})
}

// calls by verb of this phase.
func (r *record) calls() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for _, b := range r.begun {
		out[b.Verb]++
	}
	return out
}

// throttled counts the calls of this phase that were answered with 429.
func (r *record) throttled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.ended {
		if e.Status == http.StatusTooManyRequests {
			n++
		}
	}
	return n
}

// impatient lists the calls that came before the Retry-After of a 429 of their bucket had passed.
func (r *record) impatient() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.ended {
		if e.Status != http.StatusTooManyRequests {
			continue
		}
		until := e.at.Add(time.Duration(e.RetryAfter) * time.Second)
		for _, b := range r.begun {
			if b.Sequence > e.Sequence && b.at.Before(until) && bucket(b.Request) == bucket(e.Request) {
				out = append(
					out,
					fmt.Sprintf(
						"%s of %q came %s after a 429 of %s with Retry-After %d s", b.Verb, b.Pool, b.at.Sub(e.at), e.Verb, e.RetryAfter,
					),
				)
			}
		}
	}
	return out
}
