// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

const (
	// slowP99 bounds what an honest request takes among the slow ones, at the 99th percentile: well below what a person
	// notices.
	slowP99 = 100 * time.Millisecond
	// slowMemory is the gateway's limit in a serving pod, 512 MiB: above it the kernel would end it.
	slowMemory = 512 << 20
	// dribbleEvery is the time between two bytes of a slow connection.
	dribbleEvery = 2 * time.Second
	// honestRate is how many honest requests there are a second.
	honestRate = 100
)

// slowKinds are the ways to be slow: what is sent at once, before single bytes follow. Most hold a connection with half
// a header.
var slowKinds = []struct {
	name  string
	share int // of 40
	begin string
}{
	{"half a header", 28, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: "},
	{"a short body", 8, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4096\r\n\r\n{"},
	{
		"a body in chunks",
		2,
		"POST /chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n10\r\n",
	},
	{
		"a long body, its most sent",
		1,
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n{" + strings.Repeat(" ", 300<<10),
	},
	{"nothing", 1, ""},
}

// TestSlowClientsStarveNobody holds slow connections and looks at what honest clients see. The gateway runs with its
// own defaults.
func TestSlowClientsStarveNobody(t *testing.T) {
	h := newHouse(t, "--max-concurrent=256")
	honest := &client{address: h.gateway.address}
	defer honest.close()
	before, err := openLoop(t.Context(), honest, honestRate, 5**slice)
	require.NoError(t, err)

	ctx, stop := context.WithCancel(t.Context())
	var open, refused atomic.Int64
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	kind, left := 0, slowKinds[0].share
	for range *slow {
		begin := slowKinds[kind].begin
		if left--; left == 0 {
			kind = (kind + 1) % len(slowKinds)
			left = slowKinds[kind].share
		}
		all.Go(func() {
			for ctx.Err() == nil {
				if err := dribble(ctx, h.gateway.address, begin, &open); err != nil {
					refused.Add(1)
				}
				select { // slow clients come back slowly; quick ones are a flood, which is another matter
				case <-ctx.Done():
				case <-time.After(dribbleEvery):
				}
			}
		})
	}
	require.Eventually(
		t, func() bool { return open.Load() >= int64(*slow)*9/10 }, eventually.Long, eventually.Tick,
		"the slow connections are there",
	)
	during, err := openLoop(t.Context(), honest, honestRate, 15**slice)
	require.NoError(t, err, "every honest request is answered")
	held := h.gateway.cost(t)
	t.Logf(
		"%d slow connections (%d could not connect): honest requests' p99 %s (%s without), p50 %s (%s); the gateway holds %.0f MiB and %.0f goroutines",
		open.Load(), refused.Load(), short(percentile(during, 99)), short(percentile(before, 99)),
		short(percentile(during, 50)), short(percentile(before, 50)), held.resident/(1<<20), held.goroutines,
	)
	assert.Less(t, held.resident, float64(slowMemory))
	if *strict {
		assert.Less(t, percentile(during, 99), slowP99)
	}
}

// dribble holds one connection, a byte now and then, until the gateway ends it or ctx does.
func dribble(ctx context.Context, address, begin string, open *atomic.Int64) error {
	conn, err := (&net.Dialer{Timeout: eventually.Short}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	open.Add(1)
	defer open.Add(-1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, conn) // until the gateway ends it
	}()
	if _, err := io.WriteString(conn, begin); err != nil {
		return nil
	}
	ticker := time.NewTicker(dribbleEvery)
	defer ticker.Stop()
	for begin != "" || ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return nil
		case <-ticker.C:
			if begin == "" {
				continue
			}
			if _, err := fmt.Fprint(conn, "a"); err != nil {
				return nil
			}
		}
	}
	return nil
}
