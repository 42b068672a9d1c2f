// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"net/http"
	"strconv"
	"time"
)

// recorder remembers what a call was answered with.
type recorder struct {
	http.ResponseWriter
	status, retryAfter int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.retryAfter, _ = strconv.Atoi(r.Header().Get("Retry-After")) // absent: 0
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) answer(request Request, at time.Time) Answer {
	return Answer{Request: request, Status: r.status, RetryAfter: r.retryAfter, At: at}
}
