// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
)

// flow is an action of owners and its expected end, independent of crashes in between.
type flow struct {
	name string
	// before is a fault of Azure during the flow.
	fault *fakeazure.Fault
	// begin starts the flow; rounds follow.
	begin func(*world, *scene)
	// machines is the maximum number of machines that Azure may create.
	machines int
}

// scene is the state between two flows.
type scene struct {
	serial int
	want   map[string]outcome
}

// ask creates Machines with an expected outcome.
func (s *scene) ask(w *world, outcomes ...outcome) {
	for _, o := range outcomes {
		s.serial++
		name := fmt.Sprintf("ws%d", s.serial)
		s.want[name] = o
		w.ask(name)
	}
}

// release deletes the oldest Machines, also failed ones.
func (s *scene) release(w *world, n int) {
	names := slices.SortedFunc(
		maps.Keys(s.want), func(a, b string) int { return len(a)*100 - len(b)*100 + strings.Compare(a, b) },
	)
	for _, name := range names[:n] {
		delete(s.want, name)
		w.release(name)
	}
}

// chains start and end without objects, so that each flow starts from the exact state after the flow before.
var chains = [][]flow{
	{
		{name: "create 1", machines: 1, begin: func(w *world, s *scene) { s.ask(w, ready) }},
		{name: "delete 1", begin: func(w *world, s *scene) { s.release(w, 1) }},
	},
	{
		{name: "create 3", machines: 3, begin: func(w *world, s *scene) { s.ask(w, ready, ready, ready) }},
		{name: "delete 1 of 3", begin: func(w *world, s *scene) { s.release(w, 1) }},
		{name: "delete 2", begin: func(w *world, s *scene) { s.release(w, 2) }},
	},
	{
		{name: "partial failure", machines: 2, begin: func(w *world, s *scene) { s.ask(w, ready, ready, refused) },
			fault: &fakeazure.Fault{Verb: "putPool", Kind: "AllocationFailed", Fails: 1}},
		{name: "delete after a partial failure", begin: func(w *world, s *scene) { s.release(w, 3) }},
	},
	{
		// The claim is deleted while its machine is created. It names no machine yet, so Karpenter finalizes it at once.
		{name: "garbage collection", machines: 1, begin: func(w *world, s *scene) {
			s.ask(w, ready)
			w.until("Azure is asked", func() bool { return len(w.azure.State().Running) > 0 })
			s.release(w, 1)
		}},
	},
}

// forgotten is longer than any offering is marked as unavailable, and than any bucket of calls takes to fill.
const forgotten = 25 * time.Hour

// play runs a flow to its end and kills the process at the point, if there is one. It returns the calls that were made.
func (f flow) play(t *testing.T, w *world, s *scene, p point) []string {
	t.Helper()
	w.crash() // a new process without memory makes the same calls every time
	w.clock.Step(forgotten)
	w.settle()
	w.azure.ClearFaults()
	if f.fault != nil {
		w.azure.AddFault(*f.fault)
	}
	w.dieAtCall(p.call, p.how)
	before, starts := w.booted, w.starts
	f.begin(w, s)
	w.until(f.name+" ends as it must", func() bool { return w.exactly(s.want) == "" })
	calls := w.made()
	w.mu.Lock()
	w.dieAt = 0
	w.mu.Unlock()
	// The state must stay exact, and nothing is written any more.
	writes := len(w.azure.State().Writes)
	for range 2 {
		w.round()
	}
	require.Empty(t, w.exactly(s.want))
	require.Len(t, w.azure.State().Writes, writes, "%s has ended, and Azure is written to", f.name)
	require.Equal(t, before+f.machines, w.booted, "%s makes not one machine too many", f.name)
	if p.call > 0 && p.call <= len(calls) {
		require.Equal(t, starts+2, w.starts, "the process died once")
	}
	return calls
}

// point is where the process is killed.
type point struct {
	call int // from 1
	what string
	how  verdict
}

func (p point) String() string {
	when := map[verdict]string{dieBefore: "before", dieAfter: "after"}[p.how]
	return fmt.Sprintf("%s call %d, %s", when, p.call, p.what)
}

// points returns all places between two calls: before and after each write to Azure or to the API server, and before
// each read from Azure, because Azure's state changes meanwhile. A read itself changes nothing.
func points(calls []string) []point {
	var out []point
	for i, what := range calls {
		out = append(out, point{i + 1, what, dieBefore})
		if !reads(what) {
			out = append(out, point{i + 1, what, dieAfter})
		}
	}
	return out
}

// nameless returns a call without the Machine's name, which differs every time.
func nameless(what string) string { return machineName.ReplaceAllString(what, "ws") }

var machineName = regexp.MustCompile(`ws[0-9]+`)

func reads(what string) bool {
	verb, ok := strings.CutPrefix(what, "ARM ")
	return ok &&
		(strings.HasPrefix(verb, "get") || strings.HasPrefix(verb, "list") || strings.HasPrefix(verb, "operation"))
}

// share is the number of points for each one that is tested without CHAOS.
const share = 16

// TestProcessMayDieBetweenAnyTwoCalls kills the process at every point of every flow if CHAOS is set in the
// environment, otherwise at some points, which change daily.
func TestProcessMayDieBetweenAnyTwoCalls(t *testing.T) {
	every, first := share, time.Now().YearDay()%share
	if os.Getenv("CHAOS") != "" {
		every, first = 1, 0
	}
	for _, chain := range chains {
		t.Run(chain[0].name, func(t *testing.T) { enumerate(t, chain, every, first) })
	}
}

// A few failures of a chain are enough to see the cause.
const enough = 3

func enumerate(t *testing.T, chain []flow, every, first int) {
	w, s := newWorld(t, nil), &scene{want: map[string]outcome{}}
	defer func() { w.close() }()
	w.t = t
	for _, f := range chain {
		f.play(t, w, s, point{}) // creates what is created once and remains
	}
	all := make([][]point, len(chain))
	longest, other, start := 0, 0, time.Now()
	for i, f := range chain {
		all[i] = points(f.play(t, w, s, point{}))
		longest = max(longest, len(all[i]))
		t.Logf("%s: %d points", f.name, len(all[i]))
	}
	died, failed := 0, 0
	for n := first; n < longest; n += every {
		passed := t.Run(strconv.Itoa(n), func(t *testing.T) {
			w.t = t
			for i, f := range chain {
				p := point{}
				if n < len(all[i]) {
					p = all[i][n]
					t.Logf("%s: dies %s", f.name, p)
				}
				calls := f.play(t, w, s, p)
				switch {
				case p.call == 0:
				case p.call > len(calls) || nameless(calls[p.call-1]) != nameless(p.what):
					other++ // the process was killed anyway, if it reached the point
					t.Logf("%s: that was another call: %v", f.name, calls[:min(len(calls), p.call)])
				default:
					died++
				}
			}
		})
		w.t = t
		if !passed {
			if failed++; failed == enough {
				t.Logf("%d points have failed: the others are left out", failed)
				return
			}
			w.close()
			w, s = newWorld(t, nil), &scene{serial: s.serial, want: map[string]outcome{}}
		}
	}
	t.Logf(
		"died at %d of these points, and at %d where another call was made than the first time, in %s", died, other,
		time.Since(start).Round(time.Second),
	)
}
