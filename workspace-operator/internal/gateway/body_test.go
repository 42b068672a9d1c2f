// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

func TestBodiesOfEverySizeArriveWhole(t *testing.T) {
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	for _, size := range []int{0, 1, holdBytes - 1, holdBytes, holdBytes + 1, 3*holdBytes + 17} {
		want := strings.Repeat("a", size)
		res, got := f.do(t, http.MethodPost, "/v1/audio/transcriptions", want)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Len(t, got, size)

		// The same with no length announced.
		req := f.request(t, t.Context(), http.MethodPost, "/v1/audio/transcriptions", "")
		req.Body, req.ContentLength, req.GetBody = io.NopCloser(strings.NewReader(want)), -1, nil
		chunked, err := f.client.Do(req)
		require.NoError(t, err)
		_, got = readReply(t, chunked)
		require.Len(t, got, size)
	}
}

func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	for name, limit := range map[string]int64{"before a place is taken": 1000, "while it is passed on": 2 * holdBytes} {
		for _, announced := range []bool{true, false} {
			for _, path := range []string{"/v1/completions", "/chat"} {
				t.Run(name, func(t *testing.T) {
					f := start(t, answer(oneChoice), func(c *Config) { c.MaxBodyBytes = limit })
					body := `{"prompt":"` + strings.Repeat("a", int(limit)) + `"}`
					req := f.request(t, t.Context(), http.MethodPost, path, body)
					if !announced {
						req.Body, req.ContentLength, req.GetBody = io.NopCloser(strings.NewReader(body)), -1, nil
					}
					res, err := f.client.Do(req)
					require.NoError(t, err)
					answered, got := readReply(t, res)
					refused := requireError(t, answered, got, http.StatusRequestEntityTooLarge, "request_too_large")
					assert.Contains(t, refused.Message, fmt.Sprintf("%d bytes", limit))
					assert.Equal(t, int64(0), f.limiter.running.Load())
					for _, at := range f.requests() {
						assert.LessOrEqual(t, int64(len(at.body)), limit)
					}
				})
			}
		}
	}
}

func TestABodyThatDoesNotArriveTakesNoPlaceAndTimesOut(t *testing.T) {
	f := start(t, answer(oneChoice), func(c *Config) { c.ReadTimeout = 100 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(eventually.Short)))
	_, err = io.WriteString(conn, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"pro")
	require.NoError(t, err)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(got), "HTTP/1.1 408 Request Timeout\r\n")
	assert.Contains(t, string(got), `"code":"request_timeout"`)
	assert.Empty(t, f.requests())
}

func TestAnAnswerMayTakeLongerThanItsRequestMay(t *testing.T) {
	release := make(chan struct{})
	f := start(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			_, _ = io.WriteString(w, `{}`)
		case <-r.Context().Done():
		}
	}, func(c *Config) { c.ReadTimeout = 50 * time.Millisecond })
	for _, size := range []int{2, 2 * holdBytes} {
		time.AfterFunc(200*time.Millisecond, func() { release <- struct{}{} })
		res, body := f.do(t, http.MethodPost, "/v1/completions", strings.Repeat("a", size))
		require.Equal(t, http.StatusOK, res.StatusCode, body)
	}
}

func TestIncompleteBodyDoesNotReachTheEngine(t *testing.T) {
	f := start(t, answer(oneChoice))
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	_, err = io.WriteString(conn, "POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{\"pro")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	until(t, "the request ends", func() bool {
		return f.metric(t, `kaito_gateway_requests_total{code="499",route="/chat"}`) == "1"
	})
	assert.Empty(t, f.requests())
}

func TestABodyThatIsAnnouncedAsTooLargeIsRefusedUnread(t *testing.T) {
	f := start(t, answer(oneChoice))
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(eventually.Short)))
	_, err = io.WriteString(
		conn, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999999999999\r\n\r\n",
	)
	require.NoError(t, err)
	status, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 413 Request Entity Too Large\r\n", status, "and not 100 Continue")
}

func TestAChatBodyOverOneMiBIsRefused(t *testing.T) {
	f := start(t, answer(oneChoice))
	const frame = len(`{"prompt":""}`)
	for _, announced := range []bool{true, false} {
		for extra, status := range []int{http.StatusOK, http.StatusRequestEntityTooLarge} {
			body := `{"prompt":"` + strings.Repeat("a", maxChatBytes-frame+extra) + `"}`
			req := f.request(t, t.Context(), http.MethodPost, "/chat", body)
			if !announced {
				req.Body, req.ContentLength, req.GetBody = io.NopCloser(strings.NewReader(body)), -1, nil
			}
			res, err := f.client.Do(req)
			require.NoError(t, err)
			answered, got := readReply(t, res)
			require.Equal(t, status, answered.StatusCode, got)
			if extra > 0 {
				refused := requireError(t, answered, got, status, "request_too_large")
				assert.Contains(t, refused.Message, "1048576 bytes")
				assert.Contains(t, refused.Message, "/v1/chat/completions")
			}
		}
	}
	assert.Len(t, f.requests(), 2)
	until(t, "nothing is held", func() bool { return f.held() == 0 })
}
