// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// chunkEvery is how often a stream has a chunk: twenty tokens a second, what a busy engine gives each of many.
const chunkEvery = 50 * time.Millisecond

func TestWhatTheGatewayAddsToAChunkOfManyStreams(t *testing.T) {
	h := newHouse(t)
	got := map[*subject]*turns{}
	clients := map[*subject]*client{}
	chunks := int(*slice * 2 / chunkEvery)
	for _, way := range h.ways() {
		clients[way], got[way] = &client{address: way.address}, &turns{}
		defer clients[way].close()
		_, err := manyStreams(t.Context(), clients[way], *streams, 10, chunkEvery)
		require.NoError(t, err, way.name)
	}
	for range *rounds {
		for _, way := range h.ways() {
			before := way.cost(t)
			late, err := manyStreams(t.Context(), clients[way], *streams, chunks, chunkEvery)
			require.NoError(t, err, way.name)
			require.Len(t, late, *streams*chunks, "no chunk is lost")
			after, turn := way.cost(t), got[way]
			turn.cpu += after.cpu - before.cpu
			turn.mallocs += after.mallocs - before.mallocs
			turn.p50, turn.p99 = append(turn.p50, percentile(late, 50)), append(turn.p99, percentile(late, 99))
			turn.took = append(turn.took, late...)
		}
	}
	added := report(
		t,
		fmt.Sprintf(
			"%d streams at once, a chunk every %s each, from the engine's write to the client's read, %d × %d chunks", *streams,
			chunkEvery, *rounds, chunks,
		),
		h.ways(),
		got,
		"chunk",
	)
	if *strict {
		assert.LessOrEqual(
			t, added[h.gateway], addedP99, "what the gateway adds to a chunk at the 99th percentile; a bare proxy adds %s",
			added[h.bare],
		)
	}
}

// TestAChunkCostsTheGatewayNoAllocation compares a long stream with a short one, so that only the chunks differ.
func TestAChunkCostsTheGatewayNoAllocation(t *testing.T) {
	h := newHouse(t)
	c := &client{address: h.gateway.address}
	defer c.close()
	const few, many, together = 10, 1010, 20
	mallocs := func(chunks int) float64 {
		before := h.gateway.cost(t)
		late, err := manyStreams(t.Context(), c, together, chunks, time.Millisecond)
		require.NoError(t, err)
		require.Len(t, late, together*chunks)
		return h.gateway.cost(t).mallocs - before.mallocs
	}
	_ = mallocs(few)
	more := make([]float64, 3)
	for i := range more { // the metrics page and the runtime allocate as well, not always alike
		more[i] = (mallocs(many) - mallocs(few)) / (many - few) / together
	}
	t.Logf("%.3f allocations more a chunk", median(more))
	// One of ours would show as a whole one.
	assert.Less(t, median(more), 0.5, "allocations of the gateway for one more chunk")
}

// manyStreams reads streams until each has ended whole, and returns how late each chunk came.
func manyStreams(ctx context.Context, c *client, count, chunks int, every time.Duration) ([]time.Duration, error) {
	var mu sync.Mutex
	var late []time.Duration
	var failure error
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() {
			own, err := readStream(ctx, c, chunks, every, every*time.Duration(i)/time.Duration(count))
			mu.Lock()
			defer mu.Unlock()
			late = append(late, own...)
			if err != nil && failure == nil {
				failure = fmt.Errorf("stream %d: %w", i, err)
			}
		})
	}
	all.Wait()
	return late, failure
}

// readStream asks for a stream and returns how late each of its chunks came. A stream that does not end by its end mark
// is an error.
func readStream(
	ctx context.Context, c *client, chunks int, every, offset time.Duration,
) (late []time.Duration, err error) {
	late = make([]time.Duration, 0, chunks)
	err = c.ask(
		ctx,
		request(
			question{Stream: true, Chunks: chunks, EveryMS: int(every.Milliseconds()), OffsetUS: int(offset.Microseconds())},
		),
		func(body io.Reader) error {
			lines := bufio.NewReader(body)
			ended := false
			for {
				line, err := lines.ReadSlice('\n')
				if err == io.EOF && ended {
					return nil
				}
				if err != nil {
					return fmt.Errorf("after %d of %d chunks: %w", len(late), chunks, err)
				}
				ended = ended || bytes.HasPrefix(line, []byte("data: [DONE]"))
				if _, at, ok := bytes.Cut(line, []byte(`"at":`)); ok {
					nanoseconds, err := strconv.ParseInt(string(bytes.TrimRight(at, "}\n")), 10, 64)
					if err != nil {
						return err
					}
					late = append(late, time.Since(time.Unix(0, nanoseconds)))
				}
			}
		},
	)
	return late, err
}
