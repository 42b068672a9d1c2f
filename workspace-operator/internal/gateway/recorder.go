// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"time"
)

// recorder passes an answer on, notes what became of it, and gives the client a bounded time to take each piece.
type recorder struct {
	http.ResponseWriter
	control      *http.ResponseController
	writeTimeout time.Duration
	now          func() time.Time

	renewAt   time.Time
	status    int
	firstByte time.Time
	writeErr  error
}

func newRecorder(w http.ResponseWriter, writeTimeout time.Duration, now func() time.Time) *recorder {
	return &recorder{ResponseWriter: w, control: http.NewResponseController(w), writeTimeout: writeTimeout, now: now}
}

// WriteHeader notes the final status; informational ones pass by.
func (r *recorder) WriteHeader(status int) {
	if status >= 200 && r.status == 0 {
		r.status = status
	}
	r.renew()
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.firstByte.IsZero() {
		r.firstByte = r.now()
	}
	r.renew()
	n, err := r.ResponseWriter.Write(p)
	if err != nil {
		r.writeErr = err
	}
	return n, err
}

// renew moves the connection's write deadline, which the flush that follows is held to as well. It is the kernel's
// deadline, so the real time counts whatever clock the gateway was given. Moving it costs more than a chunk's copy
// does, so it is moved only when an eighth of it is gone: a client has between seven eighths of the write timeout and
// all of it.
func (r *recorder) renew() {
	now := time.Now()
	if now.Before(r.renewAt) {
		return
	}
	r.renewAt = now.Add(r.writeTimeout / 8)
	// A writer that knows no deadlines (a test's recorder) has no connection that could be stuck.
	_ = r.control.SetWriteDeadline(now.Add(r.writeTimeout))
}

// Unwrap lets http.ResponseController reach flushing and deadlines.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
