// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// holdBytes is the number of body bytes that are read before the request takes a place in the engine. A body up to this
// size is complete by then: a slow client does not occupy the engine, the gateway detects a client that disconnects in
// the queue (net/http watches the connection only after the body's end), and the call can be repeated if a kept-alive
// connection to the engine is closed. The rest of a longer body is forwarded while it arrives.
const holdBytes = 256 << 10

// takeBody reads the beginning of r's body and replaces it with one that the engine call can read. It limits the body's
// size and the time for sending it, and charges the held bytes to ex.
func (g *Gateway) takeBody(r *http.Request, ex *exchange) error {
	limit := g.bodyLimit(ex.route)
	if r.ContentLength > limit {
		return bodyTooLarge(ex.route, limit)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	// The deadline uses the real time. net/http removes it at the body's end, so the answer may take longer. A writer
	// without deadlines is a test's recorder.
	_ = ex.rec.control.SetReadDeadline(time.Now().Add(g.cfg.ReadTimeout))
	// The server's writer closes the connection of a client that sends too much.
	limited := http.MaxBytesReader(ex.rec.ResponseWriter, r.Body, limit)

	held, ended, err := holdBody(limited, r.ContentLength, ex.body)
	if err != nil {
		return err
	}
	if ended {
		ex.whole = held
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held)), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = int64(len(held))
		r.TransferEncoding = nil
		return nil
	}
	upload := &uploadBody{rest: limited, closer: r.Body, rec: ex.rec, over: time.Now().Add(g.cfg.ReadTimeout)}
	if err := upload.take(r.Context(), g.uploads); err != nil {
		return err
	}
	upload.Reader = io.MultiReader(bytes.NewReader(held), readerFunc(upload.readRest))
	r.Body = upload
	return nil
}

// bodyLimit is the largest body of a route, in bytes.
func (g *Gateway) bodyLimit(rt *route) int64 {
	if rt.chat {
		return min(g.cfg.MaxBodyBytes, maxChatBytes)
	}
	return g.cfg.MaxBodyBytes
}

// charged returns the charge of a request's body. An eviction sets a deadline in the past, which ends the pending read.
func (g *Gateway) charged(rec *recorder) *charge {
	return g.intake.begin(func() { _ = rec.control.SetReadDeadline(time.Unix(1, 0)) })
}

// smallBody is the size up to which a body is not counted, because its connection uses as much memory.
const smallBody = 4 << 10

// holdBody reads a body until its end, or one byte more than holdBytes. length is -1 if it is unknown.
func holdBody(from io.Reader, length int64, here *charge) (held []byte, ended bool, err error) {
	size := int64(smallBody)
	if length >= 0 {
		size = min(size, length+1) // one more byte, to detect the end
	}
	held = make([]byte, 0, size)
	defer func() {
		if here.arrive() { // also if the body just ended: the connection already has the deadline
			err = errBodyGaveWay
		}
	}()
	for {
		if len(held) == cap(held) {
			if len(held) > holdBytes {
				return held, false, nil
			}
			next := min(2*int64(cap(held)), holdBytes+1)
			if length >= 0 {
				next = min(next, length+1)
			}
			if err := here.resize(next); err != nil {
				return nil, false, err
			}
			held = append(make([]byte, 0, next), held...)
		}
		n, err := from.Read(held[len(held):cap(held)])
		held = held[:len(held)+n]
		if errors.Is(err, io.EOF) {
			return held, true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// bodyError converts an error of reading the body into a response; nil means that the client disconnected.
func (g *Gateway) bodyError(rt *route, err error) *apiError {
	var refused *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &tooLarge):
		return bodyTooLarge(rt, tooLarge.Limit)
	case errors.Is(err, errQueueFull), errors.Is(err, errQueueTimeout):
		return g.queueRefusal(err)
	case errors.Is(err, errIntakeFull):
		return &apiError{
			status:     http.StatusTooManyRequests,
			kind:       typeRateLimit,
			code:       "memory_full",
			retryAfter: g.limiter.retryAfter(),
			message:    "Running requests use all the memory of this server for bodies. Try again after the number of seconds in Retry-After.",
		}
	case errors.Is(err, errBodyGaveWay):
		return &apiError{
			status: http.StatusRequestTimeout, kind: typeInvalidRequest, code: "request_timeout",
			message:    "The request's body arrived too slowly while many others were arriving. Send it again.",
			headerName: "Connection", headerValue: "close",
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &apiError{
			status: http.StatusRequestTimeout, kind: typeInvalidRequest, code: "request_timeout",
			message:    "The request's body did not arrive within " + g.cfg.ReadTimeout.String() + ".",
			headerName: "Connection", headerValue: "close",
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		return nil
	default:
		return invalidRequest("unreadable_body", "", "The request's body cannot be read: its encoding is invalid.")
	}
}
