// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	// uploadShare is the part of the engine's places that requests may take before their bodies are there: one in so many.
	// The others stay with those whose bodies are, however slowly the rest of the world sends.
	uploadShare = 8
	// Of a body that goes on after its request has a place, paceBytes must come in each paceTime, or it is given up. A
	// minute for the largest body of 32 MiB, which is ReadTimeout's default, is ten times as fast.
	paceBytes = 256 << 10
	paceTime  = 5 * time.Second
)

// readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// uploadBody is a body of which only the beginning is held: the rest is passed on while it arrives. It keeps one of the
// few places of such bodies until its end.
type uploadBody struct {
	io.Reader // the beginning, then the rest
	rest      io.Reader
	closer    io.Closer
	rec       *recorder
	over      time.Time // when the whole body must be there
	reading   bool
	window    int // bytes since the deadline was moved
	places    *limiter
	began     time.Time
	leave     sync.Once
}

// take waits for a place among the uploads. Its errors are those of limiter.acquire.
func (u *uploadBody) take(ctx context.Context, places *limiter) error {
	if err := places.acquire(ctx); err != nil {
		return err
	}
	u.places, u.began = places, time.Now()
	return nil
}

// extend gives the client another paceTime. It is the kernel's deadline: the real time counts.
func (u *uploadBody) extend() {
	u.window = 0
	deadline := time.Now().Add(paceTime)
	if deadline.After(u.over) {
		deadline = u.over
	}
	_ = u.rec.control.SetReadDeadline(deadline) // a writer without deadlines has no connection to be slow
}

// readRest begins when the request has the engine's place: the wait for it is not the client's fault.
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

// Close gives the place back, whether or not the body has come to its end.
func (u *uploadBody) Close() error {
	u.done()
	return u.closer.Close()
}
