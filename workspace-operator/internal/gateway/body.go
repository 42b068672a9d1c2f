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

// holdBytes is how much of a body is read before the request takes one of the engine's places. A body up to this size
// is complete by then, so a client that sends slowly costs the engine nothing, one that leaves while it queues is noticed
// (net/http watches the connection only after the body's end), and the call can be repeated where a kept-alive connection
// to the engine turns out to be closed. What goes beyond is passed on while it arrives.
const holdBytes = 256 << 10

// takeBody reads the beginning of r's body and replaces it with one that the engine call can read. It bounds the body's
// size and the time that the client may take for it.
func (g *Gateway) takeBody(r *http.Request, rec *recorder) error {
	if r.ContentLength > g.cfg.MaxBodyBytes {
		return bodyTooLarge(g.cfg.MaxBodyBytes)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	// The kernel's deadline: the real time counts. net/http lifts it at the body's end, so the answer may take longer. A writer
	// without deadlines has no connection to be slow.
	_ = rec.control.SetReadDeadline(time.Now().Add(g.cfg.ReadTimeout))
	// The server's own writer: it closes the connection of a client that sends too much.
	limited := http.MaxBytesReader(rec.ResponseWriter, r.Body, g.cfg.MaxBodyBytes)

	size := int64(holdBytes)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	held := bytes.NewBuffer(make([]byte, 0, min(size+bytes.MinRead, 4<<10)))
	// One byte more than is held tells a body that ends here from one that goes on.
	_, err := io.Copy(held, io.LimitReader(limited, holdBytes+1))
	if err != nil {
		return err
	}
	if held.Len() <= holdBytes {
		whole := held.Bytes()
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole)), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = int64(len(whole))
		r.TransferEncoding = nil
		return nil
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(held.Bytes()), limited), r.Body}
	return nil
}

// bodyError turns an error of reading the client's body into an answer; nil means that nobody is left to answer.
func (g *Gateway) bodyError(err error) *apiError {
	var refused *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &tooLarge):
		return bodyTooLarge(tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &apiError{
			status: http.StatusRequestTimeout, kind: typeInvalidRequest, code: "request_timeout",
			message:    "The request's body did not arrive within " + g.cfg.ReadTimeout.String() + ".",
			headerName: "Connection", headerValue: "close",
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		return nil
	default:
		return invalidRequest("unreadable_body", "", "The request's body cannot be read: its encoding is broken.")
	}
}
