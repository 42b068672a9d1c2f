// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

// notice is the time that clients continue after /readyz failed, because endpoints are updated with a delay. It is half
// of the drain delay that this test gives the gateway.
const notice = time.Second

// TestAStopUnderLoadLosesNoRequest sends SIGTERM during requests and streams. Clients continue for notice. All requests
// are answered completely, and the program exits with success.
func TestAStopUnderLoadLosesNoRequest(t *testing.T) {
	h := newHouse(t, fmt.Sprintf("--drain-delay=%s", 2*notice), "--drain-timeout=30s")
	c := &client{address: h.gateway.address}
	defer c.close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var asked, streamed atomic.Int64
	load.Go(func() {
		took, err := openLoop(ctx, c, *rate/4, time.Minute)
		assert.NoError(t, err)
		asked.Add(int64(len(took)))
	})
	load.Go(func() {
		assert.NoError(t, repeat(ctx, *streams, func() error {
			// Longer than the delay, so that many outlast the listener.
			_, err := readStream(context.WithoutCancel(ctx), c, int(3*notice/chunkEvery), chunkEvery, 0)
			streamed.Add(1)
			return err
		}))
	})
	require.Eventually(
		t, func() bool { return streamed.Load() >= int64(*streams) }, eventually.Long, eventually.Tick, "the load is there",
	)

	require.NoError(t, syscall.Kill(h.gateway.PID(), syscall.SIGTERM))
	told := time.Now()
	require.Eventually(t, func() bool { return !isReady(h.gateway) }, eventually.Short, eventually.Tick/10, "not ready")
	time.Sleep(notice)
	stop()
	load.Wait()
	select {
	case <-h.gateway.Ended():
	case <-time.After(eventually.Long):
		require.Fail(t, "the gateway does not end")
	}
	assert.True(t, h.gateway.Logged(`"msg":"Drained"`), h.gateway.Tail())
	assert.ErrorContains(t, h.gateway.Died(), "exit status 0")
	t.Logf(
		"%d requests and %d streams, 0 lost; the gateway ended %s after SIGTERM", asked.Load(), streamed.Load(),
		time.Since(told).Round(time.Millisecond),
	)
}

func isReady(s *subject) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(s.pages + "/readyz")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}
