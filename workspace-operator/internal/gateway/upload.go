// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	// uploadShare is the divisor of the engine's places for requests whose bodies are still arriving. The other places are
	// for requests with complete bodies, so that slow clients do not block them.
	uploadShare = 8
	// After its request has a place, a body must arrive with paceBytes per paceTime, or it is aborted. ReadTimeout's
	// default, a minute for the largest body of 32 MiB, requires ten times this rate.
	paceBytes = 256 << 10
	paceTime  = 5 * time.Second
)

// readerFunc implements io.Reader by a function.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// uploadBody is a body whose beginning is held and whose rest is forwarded while it arrives. It keeps an upload place
// until its end.
type uploadBody struct {
	io.Reader // the beginning, then the rest
	rest      io.Reader
	closer    io.Closer
	rec       *recorder
	over      time.Time // deadline of the whole body
	reading   bool
	window    int // bytes since the last extension of the deadline
	places    *limiter
	began     time.Time
	leave     sync.Once
}

// take waits for an upload place. It returns the errors of limiter.acquire.
func (u *uploadBody) take(ctx context.Context, places *limiter) error {
	if err := places.acquire(ctx); err != nil {
		return err
	}
	u.places, u.began = places, time.Now()
	return nil
}

// extend extends the read deadline by paceTime. The deadline uses the real time.
func (u *uploadBody) extend() {
	u.window = 0
	deadline := time.Now().Add(paceTime)
	if deadline.After(u.over) {
		deadline = u.over
	}
	_ = u.rec.control.SetReadDeadline(deadline) // a writer without deadlines is a test's recorder
}

// readRest starts when the request has a place in the engine, so that the time in the queue does not count.
func (u *uploadBody) readRest(p []byte) (int, error) {
	if !u.reading {
		u.reading = true
		u.extend()
	}
	n, err := u.rest.Read(p)
	if u.window += n; u.window >= paceBytes && err == nil {
		u.extend()
	}
	if err != nil {
		u.done()
	}
	return n, err
}

func (u *uploadBody) done() {
	u.leave.Do(func() { u.places.release(time.Since(u.began)) })
}

// Close releases the place, also if the body is incomplete.
func (u *uploadBody) Close() error {
	u.done()
	return u.closer.Close()
}
