// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testingclock "k8s.io/utils/clock/testing"
)

// busy is an engine that answers only on request of the test.
func busy() (engine http.HandlerFunc, answerOne func()) {
	release := make(chan struct{})
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			_, _ = io.WriteString(w, `{}`)
		case <-r.Context().Done():
		}
	}, func() { release <- struct{}{} }
}

// send starts a request in the background; its status comes on the channel, 0 for none.
func (f *fixture) send(t *testing.T, ctx context.Context) <-chan int {
	t.Helper()
	status := make(chan int, 1)
	req := f.request(t, ctx, http.MethodPost, "/v1/completions", `{}`)
	go func() {
		res, err := f.client.Do(req)
		if err != nil {
			status <- 0
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	return status
}

func oneAtATime(c *Config) { c.MaxConcurrent, c.MaxQueue = 1, 1 }

func TestOneMoreThanTheQueueHoldsIsRefusedAtOnce(t *testing.T) {
	engine, answerOne := busy()
	f := start(t, engine, oneAtATime)
	first := f.send(t, t.Context())
	until(t, "the first is being worked on", func() bool { return len(f.requests()) == 1 })
	second := f.send(t, t.Context())
	until(t, "the second waits", func() bool { return f.limiter.queued.Load() == 1 })
	assert.Equal(t, "1", f.metric(t, "kaito_gateway_requests_queued"))
	assert.Equal(t, "1", f.metric(t, "kaito_gateway_places_taken"))
	assert.Equal(t, "2", f.metric(t, "kaito_gateway_requests_in_flight"))

	res, body := f.do(t, http.MethodPost, "/chat", `{"prompt":"q"}`)
	requireError(t, res, body, http.StatusTooManyRequests, "queue_full")
	assert.Equal(t, "1", res.Header.Get("Retry-After"), "nothing is known yet of how long an answer takes")
	assert.Equal(t, "1", f.metric(t, `kaito_gateway_refusals_total{code="queue_full"}`))

	f.clock.Step(20 * time.Second)
	answerOne()
	require.Equal(t, http.StatusOK, <-first)
	answerOne()
	require.Equal(t, http.StatusOK, <-second)
	assert.Equal(t, int64(0), f.limiter.queued.Load())
	// The first answer took 20 s and the second none since it was begun: 20 s less an eighth.
	assert.Equal(t, 18*time.Second, f.limiter.retryAfter())
}

func TestWhoWaitsTooLongIsRefused(t *testing.T) {
	engine, answerOne := busy()
	f := start(t, engine, oneAtATime)
	first := f.send(t, t.Context())
	until(t, "the first is being worked on", func() bool { return len(f.requests()) == 1 })
	second := f.send(t, t.Context())
	until(t, "the second waits", func() bool { return f.limiter.queued.Load() == 1 })
	f.clock.Step(f.cfg.QueueTimeout)
	assert.Equal(t, http.StatusTooManyRequests, <-second)
	assert.Equal(t, "1", f.metric(t, `kaito_gateway_refusals_total{code="queue_timeout"}`))
	answerOne()
	assert.Equal(t, http.StatusOK, <-first)
	assert.Len(t, f.requests(), 1)
}

func TestWhoLeavesTheQueueMakesRoomInIt(t *testing.T) {
	engine, answerOne := busy()
	f := start(t, engine, oneAtATime)
	first := f.send(t, t.Context())
	until(t, "the first is being worked on", func() bool { return len(f.requests()) == 1 })
	ctx, leave := context.WithCancel(t.Context())
	second := f.send(t, ctx)
	until(t, "the second waits", func() bool { return f.limiter.queued.Load() == 1 })
	leave()
	assert.Equal(t, 0, <-second)
	until(t, "the queue is empty", func() bool { return f.limiter.queued.Load() == 0 })
	answerOne()
	assert.Equal(t, http.StatusOK, <-first)
	until(t, "no place is held", func() bool { return f.limiter.running.Load() == 0 })
	assert.Len(t, f.requests(), 1, "an abandoned request does not reach the engine")
}

func TestListingModelsNeedsNoPlace(t *testing.T) {
	engine, answerOne := busy()
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/models") {
			_, _ = io.WriteString(w, `{}`)
			return
		}
		engine(w, r)
	}, func(c *Config) { c.MaxConcurrent, c.MaxQueue = 1, 0 })
	first := f.send(t, t.Context())
	until(t, "the place is taken", func() bool { return f.limiter.running.Load() == 1 })
	res, _ := f.do(t, http.MethodGet, "/v1/models", "")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	res, body := f.do(t, http.MethodPost, "/v1/completions", `{}`)
	requireError(t, res, body, http.StatusTooManyRequests, "queue_full")
	until(t, "the engine has the first", func() bool { return len(f.requests()) >= 2 })
	answerOne()
	assert.Equal(t, http.StatusOK, <-first)
}

func TestRetryAfterIsTheQueuesLengthTimesTheServiceTime(t *testing.T) {
	for name, tc := range map[string]struct {
		capacity int
		queued   int64
		served   time.Duration
		want     time.Duration
	}{
		"nothing is known":             {4, 0, 0, time.Second},
		"a short answer":               {4, 3, 200 * time.Millisecond, time.Second},
		"two rounds of 10 s":           {4, 7, 10 * time.Second, 20 * time.Second},
		"one and a bit is rounded up":  {4, 4, 10 * time.Second, 13 * time.Second},
		"never more than a minute":     {1, 100, 100 * time.Second, time.Minute},
		"an empty queue, one of eight": {8, 0, 80 * time.Second, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(testingclock.NewFakeClock(epoch), tc.capacity, 1000, time.Minute)
			l.queued.Store(tc.queued)
			l.served.Store(int64(tc.served))
			assert.Equal(t, tc.want, l.retryAfter())
		})
	}
}
