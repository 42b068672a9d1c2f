// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// addedP99 is the design's bound on what the gateway may add to a direct call, at the 99th percentile.
const addedP99 = time.Millisecond

// turns are what one way's turns brought.
type turns struct {
	took     []time.Duration
	p50, p99 []time.Duration
	cpu      time.Duration
	mallocs  float64
}

func TestWhatTheGatewayAddsToARequest(t *testing.T) {
	h := newHouse(t)
	clients, got := map[*subject]*client{}, map[*subject]*turns{}
	for _, way := range h.ways() {
		clients[way], got[way] = &client{address: way.address}, &turns{}
		defer clients[way].close()
		warm(t, clients[way])
	}
	for range *rounds {
		for _, way := range h.ways() { // in turns: a noisy second hits all alike
			before := way.cost(t)
			took, err := openLoop(t.Context(), clients[way], *rate, *slice)
			require.NoError(t, err, way.name)
			after, turn := way.cost(t), got[way]
			turn.cpu += after.cpu - before.cpu
			turn.mallocs += after.mallocs - before.mallocs
			turn.p50, turn.p99 = append(turn.p50, percentile(took, 50)), append(turn.p99, percentile(took, 99))
			turn.took = append(turn.took, took...)
		}
	}
	added := report(
		t, fmt.Sprintf("%d requests a second, open loop, %d × %s each way", *rate, *rounds, *slice), h.ways(), got, "request",
	)
	if *strict {
		assert.LessOrEqual(
			t, added[h.gateway], addedP99, "what the gateway adds at the 99th percentile; a bare proxy adds %s", added[h.bare],
		)
	}
}

// report prints what each way took, and returns what it added to the first at the 99th percentile: the median of the
// rounds, as other work on the machine comes and goes.
func report(
	t *testing.T, title string, ways []*subject, got map[*subject]*turns, what string,
) map[*subject]time.Duration {
	t.Helper()
	var table strings.Builder
	fmt.Fprintf(
		&table, "%s\n%-8s %9s %9s %9s %12s %12s %14s %13s\n", title, "", "p50", "p99", "p99.9", "p50 added", "p99 added",
		"CPU ms/1000", "allocs/"+what,
	)
	added := map[*subject]time.Duration{}
	for _, way := range ways {
		turn := got[way]
		var more50, more99 []time.Duration
		for round := range turn.p99 {
			more50 = append(more50, turn.p50[round]-got[ways[0]].p50[round])
			more99 = append(more99, turn.p99[round]-got[ways[0]].p99[round])
		}
		added[way] = median(more99)
		count := float64(len(turn.took))
		fmt.Fprintf(
			&table, "%-8s %9s %9s %9s %12s %12s %14.1f %13.1f\n", way.name, short(percentile(turn.took, 50)),
			short(percentile(turn.took, 99)), short(percentile(turn.took, 99.9)), short(median(more50)), short(added[way]),
			turn.cpu.Seconds()*1e6/count, turn.mallocs/count,
		)
	}
	t.Log(table.String())
	return added
}

func short(d time.Duration) string { return fmt.Sprintf("%dµs", d.Microseconds()) }
