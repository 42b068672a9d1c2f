// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

// memoryLimit is what a serving pod gives the gateway's container, in bytes.
const memoryLimit = 512 << 20

// TestLargeChatsFitTheMemory sends bodies of /chat that are far too large, and as many of the largest size as there are
// places and twice the queue.
func TestLargeChatsFitTheMemory(t *testing.T) {
	h := newHouse(t, "--max-concurrent=256")
	tooLarge := bytes.Repeat([]byte("a"), 31<<20)
	statuses := h.chats(t, 24, func() *bytes.Reader { return bytes.NewReader(tooLarge) })
	assert.Equal(t, map[int]int64{http.StatusRequestEntityTooLarge: 24}, statuses)

	largest := []byte(`{"prompt":"` + strings.Repeat("<", 1<<20-100) + `"}`)
	statuses = h.chats(t, 3*256, func() *bytes.Reader { return bytes.NewReader(largest) })
	peak := h.gateway.peak(t)
	t.Logf("768 chats of 1 MiB at once were answered with %v; the gateway took %.0f MiB at most", statuses, peak/(1<<20))
	assert.Positive(t, statuses[http.StatusOK])
	// 429 where the queue or the memory is full, 408 where a body gave way to others. A client that still sends when it is
	// refused may lose the answer with the connection.
	assert.Equal(
		t, int64(768),
		statuses[http.StatusOK]+statuses[http.StatusTooManyRequests]+statuses[http.StatusRequestTimeout]+statuses[cutOff],
	)
	assert.Less(t, peak, float64(memoryLimit))
}

// cutOff counts requests whose connection the gateway closed while the body was sent.
const cutOff = 0

// chats posts n bodies at once and counts the answers by status.
func (h *fixture) chats(t *testing.T, n int, body func() *bytes.Reader) map[int]int64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: eventually.Long}}
	var counts [600]atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.gateway.url+"/chat", body())
			if !assert.NoError(t, err) {
				return
			}
			req.Header.Set("Expect", "100-continue") // so that a refusal is read, and not lost to a closed connection
			res, err := client.Do(req)
			if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
				counts[cutOff].Add(1)
				return
			}
			if assert.NoError(t, err) {
				counts[res.StatusCode].Add(1)
				assert.NoError(t, res.Body.Close())
			}
		})
	}
	all.Wait()
	out := map[int]int64{}
	for status := range counts {
		if count := counts[status].Load(); count > 0 {
			out[status] = count
		}
	}
	require.NotEmpty(t, out)
	return out
}
