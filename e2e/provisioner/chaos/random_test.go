// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"kaito.sh/e2e/fakeazure"
)

// A run has about a hundred steps in one world. `make chaos SEED=… STEPS=…` sets other values.
const (
	stepsOfARun  = 100
	stepsOfATest = 200
	// seedOfATest is fixed, because make test must run the same steps every time; make chaos uses new seeds. This seed
	// once found a claim that Karpenter deleted with its Node before it knew that the Node had registered.
	seedOfATest = 71209
)

// TestRandomStepsKeepTheInvariants lets owners, Azure, the process and other clients act in an order that a seed
// determines. The invariants hold after every step. When Azure works again, every request is served or has a reason.
func TestRandomStepsKeepTheInvariants(t *testing.T) {
	seed, steps := number(t, "SEED", seedOfATest), number(t, "STEPS", stepsOfATest)
	for name, value := range map[string]string{"rapid.checks": "1", "rapid.steps": strconv.Itoa(stepsOfARun), "rapid.nofailfile": "true"} {
		require.NoError(t, flag.Set(name, value))
	}
	start, taken := time.Now(), uint64(0)
	for run := seed; taken < steps; run++ {
		require.NoError(t, flag.Set("rapid.seed", strconv.FormatUint(run, 10)))
		passed := t.Run(fmt.Sprintf("seed %d", run), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { taken += random(t) })
		})
		if !passed {
			t.Fatalf("replay this with: make chaos SEED=%d STEPS=1", run)
		}
	}
	t.Logf("%d steps from seed %d on in %s", taken, seed, time.Since(start).Round(time.Second))
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "%s=%q must be a number", name, text)
	return n
}

// random does one run and returns its steps.
func random(t *rapid.T) uint64 {
	w := newWorld(
		t, func(o *fakeazure.Options) { o.PageSize = 2 },
		"--max-nodes-per-pool="+strconv.Itoa(rapid.SampledFrom([]int{100, 2, 1}).Draw(t, "max nodes per pool")),
	)
	defer w.close()
	w.checker.Grace = 20 * time.Minute // time without faults: the longest backoff and what follows
	r := &storm{world: w, tags: map[string]map[string]string{}}
	steps := uint64(0)
	actions := map[string]func(*rapid.T){}
	for name, do := range r.actions() {
		actions[name] = func(t *rapid.T) {
			w.t = t
			do(t)
		}
	}
	actions[""] = func(t *rapid.T) {
		w.t = t
		r.round(t)
		steps++
	}
	t.Repeat(actions)
	w.t = t
	r.end()
	return steps
}

// end ends the faults, and waits until every request is served or has a reason. Then it deletes everything.
func (r *storm) end() {
	r.recover()
	r.patiently("each request is served or has a reason", r.served)
	for _, name := range r.machines() {
		r.release(name)
	}
	for _, name := range r.claims() {
		r.releaseClaim(name)
	}
	r.patiently("I3: everything is given back", func() string { return r.exactly(map[string]outcome{}) })
}

// patiently runs rounds with a longer limit until the function returns no complaint.
func (r *storm) patiently(what string, missing func() string) {
	for range patience {
		if missing() == "" {
			return
		}
		r.step(3*tick, command{Steps: order})
	}
	require.FailNow(r.t, what+": "+missing(), r.describe())
}

// recover ends all faults.
func (r *storm) recover() {
	r.azure.ClearFaults()
	r.azure.SetPower(fakeazure.PowerRunning)
	r.azure.ListLag(0)
	for _, name := range keys(r.tags) {
		r.retag(name, r.tags[name])
		delete(r.tags, name)
	}
	r.unfair, r.garbled = false, false
	for _, id := range keys(r.world.machines) {
		r.azure.ChangeNode(fakeazure.NodeChange{ProviderID: id}) // also restores a deleted Node
	}
}
