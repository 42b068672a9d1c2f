// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/shared/test/eventually"
)

const (
	// growth is how much of its memory the gateway may gain, by the fitted line, in the time that it is watched: scatter
	// of the garbage collector is about one percent.
	growth = 0.05
	// warmup is the part of the time before memory counts: pools and connections fill, and the runtime learns its heap's
	// size.
	warmup = 4 // a quarter
	// leftover is how many goroutines more than before may be there when the load is gone: the runtime's and one
	// connection's.
	leftover = 8
)

// sample is the gateway's memory at one moment.
type sample struct {
	at time.Duration
	cost
}

// TestMemoryStaysFlat puts mixed work on the gateway: answers, streams, streams that their clients leave, refused
// paths, and bodies larger than what is held in memory.
func TestMemoryStaysFlat(t *testing.T) {
	h := newHouse(t)
	idle := h.gateway.cost(t)
	ctx, stop := context.WithTimeout(t.Context(), *duration)
	defer stop()
	c := &client{address: h.gateway.address}
	failures := make(chan error, 8)
	var load sync.WaitGroup
	for _, work := range []func(context.Context, *client) error{steadily, streaming, leaving, refusing, uploading} {
		load.Go(func() {
			if err := work(ctx, c); err != nil {
				failures <- err
				stop()
			}
		})
	}
	samples := watch(ctx, t, h.gateway)
	load.Wait()
	c.close()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}

	steady := samples[len(samples)/warmup:]
	var table strings.Builder
	fmt.Fprintf(
		&table, "the gateway's memory over %s, %d samples\n%8s %14s %14s %12s\n", *duration, len(samples), "at",
		"resident MiB", "heap MiB", "goroutines",
	)
	for _, s := range []sample{{0, idle}, samples[0], steady[0], steady[len(steady)/2], steady[len(steady)-1]} {
		fmt.Fprintf(
			&table, "%8s %14.1f %14.1f %12.0f\n", s.at.Round(time.Second/10), s.resident/(1<<20), s.heap/(1<<20), s.goroutines,
		)
	}
	resident := fit(steady, func(s sample) float64 { return s.resident })
	heap := fit(steady, func(s sample) float64 { return s.heap })
	fmt.Fprintf(
		&table, "fitted line over the last %s: resident %+.2f%%, heap in use %+.2f%%",
		(steady[len(steady)-1].at - steady[0].at).Round(time.Second/10), resident*100, heap*100,
	)
	t.Log(table.String())
	if *strict {
		assert.LessOrEqual(t, resident, growth, "growth of the resident memory")
	}
	assert.Eventually(t, func() bool {
		http.DefaultClient.CloseIdleConnections()
		return h.gateway.cost(t).goroutines <= idle.goroutines+leftover
	}, eventually.Short, eventually.Tick, "goroutines of requests that are over")
}

// watch reads the gateway's costs until ctx ends.
func watch(ctx context.Context, t *testing.T, s *subject) []sample {
	t.Helper()
	begin := time.Now()
	ticker := time.NewTicker(*duration / 100)
	defer ticker.Stop()
	var samples []sample
	for {
		select {
		case <-ctx.Done():
			require.NotEmpty(t, samples)
			return samples
		case <-ticker.C:
			samples = append(samples, sample{time.Since(begin), s.cost(t)})
		}
	}
}

// fit draws the line of least squares and returns what it gains from the first sample to the last, relative to the
// mean.
func fit(samples []sample, value func(sample) float64) float64 {
	var meanX, meanY float64
	for _, s := range samples {
		meanX += s.at.Seconds() / float64(len(samples))
		meanY += value(s) / float64(len(samples))
	}
	var xy, xx float64
	for _, s := range samples {
		xy += (s.at.Seconds() - meanX) * (value(s) - meanY)
		xx += (s.at.Seconds() - meanX) * (s.at.Seconds() - meanX)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx * (samples[len(samples)-1].at - samples[0].at).Seconds() / meanY
}

// steadily sends plain requests.
func steadily(ctx context.Context, c *client) error {
	_, err := openLoop(ctx, c, max(*rate/4, 1), *duration)
	var refused *statusError
	if errors.As(err, &refused) && refused.status == http.StatusTooManyRequests {
		return nil // the machine was stopped for seconds; the queue limits the memory
	}
	return err
}

// streaming keeps streams open, one after the other.
func streaming(ctx context.Context, c *client) error {
	return repeat(ctx, *streams/2, func() error {
		_, err := readStream(context.WithoutCancel(ctx), c, 20, chunkEvery, 0)
		return err
	})
}

// leaving opens streams and leaves them in their middle.
func leaving(ctx context.Context, c *client) error {
	errLeft := errors.New("left")
	return repeat(ctx, 10, func() error {
		err := c.ask(
			context.WithoutCancel(ctx),
			request(question{Stream: true, Chunks: 1000, EveryMS: 10}),
			func(body io.Reader) error {
				if _, err := io.CopyN(io.Discard, body, 1000); err != nil {
					return err
				}
				return errLeft
			},
		)
		if errors.Is(err, errLeft) {
			return nil
		}
		return fmt.Errorf("a stream ended before it was left: %w", err)
	})
}

// refusing asks for what is not there.
func refusing(ctx context.Context, c *client) error {
	return repeat(ctx, 1, func() error {
		conn, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), "tcp", c.address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "GET /pause?%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", time.Now().UnixNano())
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
		time.Sleep(10 * time.Millisecond)
		return err
	})
}

// uploading sends bodies as large as an image's.
func uploading(ctx context.Context, c *client) error {
	body := `{"model":"` + model + `","image":"` + strings.Repeat("A", 1<<20) + `"}`
	upload := fmt.Appendf(
		nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body,
	)
	return repeat(ctx, 1, func() error {
		time.Sleep(200 * time.Millisecond)
		return c.ask(context.WithoutCancel(ctx), upload, whole)
	})
}

// repeat does something at so many places at once, again and again until ctx ends.
func repeat(ctx context.Context, places int, do func() error) error {
	var mu sync.Mutex
	var failure error
	var all sync.WaitGroup
	for range places {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failure = err
					return
				}
			}
		})
	}
	all.Wait()
	return failure
}
