// SPDX-License-Identifier: Apache-2.0

package provisioner_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

// killer kills the operator at chosen moments and starts it again.
type killer struct {
	w       *world
	mu      sync.Mutex
	kills   atomic.Int32
	restart sync.WaitGroup
}

// kill kills the operator now and starts it again in the background.
func (k *killer) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	assert.NoError(k.w.t, k.w.process.Kill())
	k.kills.Add(1)
	k.restart.Go(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.w.process.Died() != nil {
			assert.NoError(k.w.t, k.w.run())
		}
	})
}

// journeyOf does what every owner does: create, use, delete some, delete all.
func journeyOf(w *world) {
	w.t.Helper()
	w.ask("ws1", "ws2", "ws3")
	w.ready("ws1", "ws2", "ws3")
	w.release("ws2")
	w.away("ws2")
	w.release("ws1", "ws3")
	w.away("ws1", "ws3")
	w.empty()
}

func TestProcessMayDieAtAnyWriteToAzure(t *testing.T) {
	for name, verdict := range map[string]fakeazure.Verdict{"before": fakeazure.DropBefore, "after": fakeazure.DropAfter} {
		t.Run(name, func(t *testing.T) {
			k := &killer{}
			seen := map[string]bool{}
			var mu sync.Mutex
			w := newWorld(t, func(o *fakeazure.Options) {
				o.OnRequest = func(r fakeazure.Request) fakeazure.Verdict {
					mu.Lock()
					defer mu.Unlock()
					if !r.Write || seen[r.Verb] {
						return fakeazure.Serve
					}
					seen[r.Verb] = true
					go k.kill() // the response is cut off in any case; the kill may come a moment later
					return verdict
				}
			})
			k.mu.Lock()
			k.w = w
			k.mu.Unlock()
			journeyOf(w)
			k.restart.Wait()
			mu.Lock()
			defer mu.Unlock()
			for _, verb := range []string{"putPool", "deleteMachines", "deletePool"} {
				assert.True(t, seen[verb], "%s was never asked for", verb)
			}
			assert.EqualValues(t, len(seen), k.kills.Load())
		})
	}
}

// TestProcessMayDieAtAnyMoment kills at random moments. CHAOS_SEED repeats a run.
func TestProcessMayDieAtAnyMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("CHAOS_SEED=%d replays this", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	w := newWorld(t, nil)
	k := &killer{w: w}
	const kills = 8
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range kills {
			timer := time.NewTimer(time.Duration(500+random.IntN(2500)) * time.Millisecond)
			<-timer.C
			k.kill()
			k.restart.Wait()
		}
	}()
	journeyOf(w)
	<-done
	assert.EqualValues(t, kills, k.kills.Load())
}
