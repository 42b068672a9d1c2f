// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// begin opens a connection and sends a request with the given part of its body.
func (f *fixture) begin(t *testing.T, length, sent int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(
		conn, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat("a", sent),
	)
	require.NoError(t, err)
	return conn
}

func TestBodiesThatStopInTheirMiddleLeavePlacesToOthers(t *testing.T) {
	f := start(t, answer(oneChoice), func(c *Config) { c.MaxConcurrent, c.MaxQueue = 2*uploadShare, 10 })
	for range 2 * uploadShare { // as many as there are places
		f.begin(t, 3*holdBytes, 2*holdBytes)
	}
	until(
		t, "the others wait",
		func() bool { return f.uploads.queued.Load() == 2*uploadShare-2 || f.uploads.queued.Load() == 10 },
	)
	assert.Equal(t, int64(2), f.limiter.running.Load())
	for range 20 {
		res, body := f.do(t, http.MethodPost, "/v1/completions", strings.Repeat("a", holdBytes))
		require.Equal(t, http.StatusOK, res.StatusCode, body)
	}
}

func TestAnUploadGivesItsPlaceBack(t *testing.T) {
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, oneChoice)
	}, func(c *Config) { c.MaxConcurrent = 1 })
	for _, sent := range []int{2 * holdBytes, 3 * holdBytes} { // one that breaks off, one that comes whole
		conn := f.begin(t, 3*holdBytes, sent)
		until(t, "the upload is taken", func() bool { return f.uploads.running.Load() == 1 || len(f.requests()) > 0 })
		require.NoError(t, conn.Close())
		until(t, "the place is free", func() bool { return f.uploads.running.Load() == 0 && f.limiter.running.Load() == 0 })
	}
	res, _ := f.do(t, http.MethodPost, "/v1/completions", strings.Repeat("a", 2*holdBytes))
	assert.Equal(t, http.StatusOK, res.StatusCode)
}

func TestTheBodyThatArrivesForLongestGivesWayToOthers(t *testing.T) {
	f := start(t, answer(oneChoice))
	f.intake.limit = 4 * holdBytes
	oldest := f.begin(t, holdBytes, holdBytes/2+1)
	until(t, "the first is there", func() bool { return f.held() > 0 })
	for range 4 {
		f.begin(t, holdBytes, holdBytes-1)
	}
	got := make([]byte, 1000)
	n, err := io.ReadAtLeast(oldest, got, 20)
	require.NoError(t, err)
	assert.Contains(t, string(got[:n]), "HTTP/1.1 408 ")
	assert.LessOrEqual(t, f.held(), f.intake.limit)
	res, _ := f.do(t, http.MethodPost, "/v1/completions", strings.Repeat("a", holdBytes))
	assert.Equal(t, http.StatusOK, res.StatusCode, "who sends at once is answered")
}

// blocked is an engine that answers on request of the test.
func blocked(t *testing.T, release <-chan struct{}) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			_, _ = io.WriteString(w, oneChoice)
		case <-r.Context().Done():
		}
	}
}

// post sends a body in the background and returns where the answer's status will be.
func (f *fixture) post(t *testing.T, path, body string) <-chan int {
	t.Helper()
	out := make(chan int, 1)
	req := f.request(t, t.Context(), http.MethodPost, path, body)
	go func() {
		res, err := f.client.Do(req)
		if err != nil {
			out <- 0
			return
		}
		_ = res.Body.Close()
		out <- res.StatusCode
	}()
	return out
}

func TestChatIsTranslatedOnlyOnceItIsAdmitted(t *testing.T) {
	release := make(chan struct{})
	f := start(t, blocked(t, release), func(c *Config) { c.MaxConcurrent, c.MaxQueue = 1, 0 })
	running := f.post(t, "/chat", `{"prompt":"q"}`)
	until(t, "the place is taken", func() bool { return f.limiter.running.Load() == 1 })
	res, body := f.do(t, http.MethodPost, "/chat", `no JSON at all`)
	requireError(t, res, body, http.StatusTooManyRequests, "queue_full")
	close(release)
	assert.Equal(t, http.StatusOK, <-running)
	res, body = f.do(t, http.MethodPost, "/chat", `no JSON at all`)
	requireError(t, res, body, http.StatusBadRequest, "invalid_json")
}

func TestBodiesAreChargedUntilTheirRequestsEnd(t *testing.T) {
	release := make(chan struct{})
	f := start(t, blocked(t, release))
	plain := f.post(t, "/v1/completions", strings.Repeat("a", holdBytes/2))
	until(t, "the engine has it", func() bool { return len(f.requests()) == 1 })
	first := f.held()
	assert.InDelta(t, holdBytes/2, first, 1)
	chats := []<-chan int{
		f.post(t, "/chat", `{"prompt":"`+strings.Repeat("a", maxChatBytes/2)+`"}`),
		f.post(t, "/chat", `{"prompt":"`+strings.Repeat("a", holdBytes/2)+`"}`),
	}
	until(t, "the engine has them", func() bool { return len(f.requests()) == 3 })
	assert.InDelta(t, maxChatBytes/2+holdBytes/2, f.held()-first, 500, "their translations alone")
	close(release)
	for _, sent := range append(chats, plain) {
		assert.Equal(t, http.StatusOK, <-sent)
	}
	until(t, "nothing is held", func() bool { return f.held() == 0 })
}

func TestABodyWithoutMemoryIsRefused(t *testing.T) {
	release := make(chan struct{})
	f := start(t, blocked(t, release))
	f.intake.limit = 3 * holdBytes
	var running []<-chan int
	for n := range 3 {
		running = append(running, f.post(t, "/v1/completions", strings.Repeat("a", holdBytes-1)))
		until(t, "the engine has it", func() bool { return len(f.requests()) == n+1 })
	}
	for _, path := range []string{"/v1/completions", "/chat"} {
		for _, size := range []int{holdBytes / 2, maxChatBytes} {
			res, body := f.do(t, http.MethodPost, path, strings.Repeat("a", size))
			refused := requireError(t, res, body, http.StatusTooManyRequests, "memory_full")
			assert.Contains(t, refused.Message, "Retry-After")
			assert.NotEmpty(t, res.Header.Get("Retry-After"))
		}
	}
	assert.LessOrEqual(t, f.held(), f.intake.limit)
	close(release)
	for _, sent := range running {
		assert.Equal(t, http.StatusOK, <-sent, "what is admitted is answered")
	}
	res, _ := f.do(t, http.MethodPost, "/v1/completions", strings.Repeat("a", holdBytes/2))
	assert.Equal(t, http.StatusOK, res.StatusCode)
}

func (f *fixture) held() int64 {
	f.intake.mu.Lock()
	defer f.intake.mu.Unlock()
	return f.intake.held
}
