// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"net/http"
	"strconv"
	"time"
)

// recorder records the response to a call.
type recorder struct {
	http.ResponseWriter
	status, retryAfter int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.retryAfter, _ = strconv.Atoi(r.Header().Get("Retry-After")) // 0 if absent
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) answer(request Request, at time.Time) Answer {
	return Answer{Request: request, Status: r.status, RetryAfter: r.retryAfter, At: at}
}
