// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"time"
)

// recorder forwards an answer, records its status and size, and limits the time for reading each chunk.
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

// WriteHeader records the final status, and ignores informational ones.
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

// renew extends the connection's write deadline, which also limits the next flush. The deadline uses the real time.
// Setting it costs more than copying a chunk, so it is set only after an eighth of the write timeout. A client has
// between seven eighths of the timeout and the whole timeout.
func (r *recorder) renew() {
	now := time.Now()
	if now.Before(r.renewAt) {
		return
	}
	r.renewAt = now.Add(r.writeTimeout / 8)
	// A writer without deadlines is a test's recorder.
	_ = r.control.SetWriteDeadline(now.Add(r.writeTimeout))
}

// Unwrap gives http.ResponseController access to flushing and deadlines.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
