// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// client keeps connections to one subject. It does not use net/http: two goroutines a connection and a pool that hands
// requests over would cost as much as the gateway does, and scatter its times.
type client struct {
	address string
	mu      sync.Mutex
	free    []*connection
}

type connection struct {
	net.Conn
	reader *bufio.Reader
}

func (c *client) take(ctx context.Context) (*connection, error) {
	c.mu.Lock()
	if last := len(c.free) - 1; last >= 0 {
		conn := c.free[last]
		c.free = c.free[:last]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	return &connection{conn, bufio.NewReader(conn)}, nil
}

func (c *client) put(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, conn)
}

// close ends the connections that are not in use.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.free {
		_ = conn.Close()
	}
	c.free = nil
}

// answerTimeout bounds one answer: what takes longer was lost.
const answerTimeout = 30 * time.Second

// ask sends a request and hands its answer's body to read. The connection is kept where the answer was read whole.
func (c *client) ask(ctx context.Context, request []byte, read func(io.Reader) error) error {
	conn, err := c.take(ctx)
	if err != nil {
		return err
	}
	keep, err := conn.ask(request, read)
	if !keep {
		_ = conn.Close()
		return err
	}
	c.put(conn)
	return nil
}

func (c *connection) ask(request []byte, read func(io.Reader) error) (keep bool, err error) {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return false, err
	}
	if _, err := c.Write(request); err != nil {
		return false, err
	}
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body) // for the error message, as far as it comes
		return false, &statusError{res.StatusCode, string(text)}
	}
	if err := read(res.Body); err != nil {
		return false, err
	}
	return !res.Close, nil
}

// statusError is an answer of another status than 200.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.text) }

// whole reads an answer in one piece.
func whole(body io.Reader) error {
	n, err := io.Copy(io.Discard, body)
	if err == nil && n != int64(len(wholeAnswer)) {
		err = fmt.Errorf("the answer has %d bytes, not %d", n, len(wholeAnswer))
	}
	return err
}

// request is the bytes of a call with the length of a short conversation.
func request(q question) []byte {
	q.Model = model
	q.Messages = []json.RawMessage{json.RawMessage(`{"role":"user","content":"` + strings.Repeat("why ", 100) + `"}`)}
	body, err := json.Marshal(q)
	if err != nil {
		panic(err) // of a struct that can be written
	}
	return fmt.Appendf(
		nil,
		"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body,
	)
}

// openLoop sends the request at the rate until ctx ends or the length is over, and returns how long each took from when
// it was due: a late answer does not hold the next request back, and the wait counts.
func openLoop(ctx context.Context, c *client, rate int, length time.Duration) ([]time.Duration, error) {
	each := time.Second / time.Duration(rate)
	took := make([]time.Duration, int(length/each))
	plain := request(question{})
	var mu sync.Mutex
	var failures []error
	var all sync.WaitGroup
	// A thread of its own, which the kernel wakes: the runtime's timers are late by up to a millisecond.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := time.Now()
	sent := 0
	for i := range took {
		due := begin.Add(time.Duration(i) * each)
		sleepUntil(due)
		if ctx.Err() != nil {
			break
		}
		sent++
		all.Go(func() {
			err := c.ask(context.WithoutCancel(ctx), plain, whole)
			took[i] = time.Since(due)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, fmt.Errorf("request %d: %w", i, err))
			}
		})
	}
	all.Wait()
	took = took[:sent]
	if len(failures) > 3 {
		failures = append(failures[:3], fmt.Errorf("and %d more of %d", len(failures)-3, sent))
	}
	return took, errors.Join(failures...)
}

func sleepUntil(due time.Time) {
	for wait := time.Until(due); wait > 0; wait = time.Until(due) {
		pause := syscall.NsecToTimespec(int64(wait))
		_ = syscall.Nanosleep(&pause, nil) // interrupted: the rest is slept in the next round
	}
}

// percentile of times, which it sorts.
func percentile(took []time.Duration, percent float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(int(float64(len(took))*percent/100), len(took)-1)]
}

func median[T ~int64 | ~float64](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// warm lets connections, buffers and goroutines be there before anything counts.
func warm(t *testing.T, c *client) {
	t.Helper()
	_, err := openLoop(t.Context(), c, *rate, *slice/2)
	require.NoError(t, err, c.address)
}
