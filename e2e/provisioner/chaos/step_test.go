// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/provisioner/installed"
	"kaito.sh/shared/test/eventually"
	"kaito.sh/shared/test/process"
)

// round moves the clock and runs each controller once. It returns whether the process survived.
func (w *world) round() bool { return w.step(tick, command{Steps: order}) }

func (w *world) step(d time.Duration, c command) bool {
	w.t.Helper()
	w.clock.Step(d)
	if !w.unfair {
		w.fair = w.fair.Add(d)
	}
	w.settle()
	if w.process == nil {
		w.start()
	}
	c.Now = w.clock.Now()
	survived := w.carryOut(c)
	w.settle()
	w.check()
	return survived
}

func (w *world) start() {
	w.t.Helper()
	w.starts++
	control := ""
	w.line, control = w.api.line()
	args := append([]string{
		"--control=" + control,
		"--api=" + w.api.address,
		"--azure-config=" + filepath.Join(w.dir, "azure.yaml"),
		"--namespace=" + installed.Namespace,
	}, w.args...)
	p, err := w.launcher.Start(process.Spec{Name: "stepper", Binary: shared.binary, Args: args})
	require.NoError(w.t, err)
	w.process = p
}

// carryOut makes the process run a command. It returns false if the process was killed.
func (w *world) carryOut(c command) bool {
	w.t.Helper()
	timeout := time.NewTimer(eventually.Long)
	defer timeout.Stop()
	commands := w.line.commands
	for {
		select {
		case commands <- c:
			commands = nil
		case r := <-w.line.results:
			w.errors = r.Errors
			return true
		case <-w.process.Ended():
			w.mu.Lock()
			expected := w.dieAt == 0 && w.die != serve
			w.die = serve
			w.mu.Unlock()
			require.True(w.t, expected, "the process ended unexpectedly: %v", w.process.Died())
			w.process = nil
			return false
		case <-timeout.C:
			require.FailNow(w.t, "a round does not end", w.process.Tail())
		}
	}
}

func (w *world) settle() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), eventually.Long)
	defer cancel()
	require.NoError(w.t, w.azure.Settle(ctx))
}

// until runs rounds until the condition is true.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	for range patience {
		if condition() {
			return
		}
		w.round()
	}
	require.FailNow(w.t, "still not true: "+what, w.describe())
}

// describe returns the state, for a failure's message.
func (w *world) describe() string {
	out := fmt.Sprintf("at %s, %d starts, errors of the last round: %q\n", w.clock.Now().Sub(epoch), w.starts, w.errors)
	for _, p := range w.azure.State().Pools {
		out += fmt.Sprintf("pool %s: %s, count %d, machines %v\n", p.Name, p.ProvisioningState, p.Count, p.Machines)
	}
	for _, m := range w.listMachines() {
		out += fmt.Sprintf("Machine %s, deleted %v: %+v\n", m.Name, m.DeletionTimestamp, m.Status.Conditions)
	}
	for _, c := range w.listClaims() {
		out += fmt.Sprintf(
			"NodeClaim %s, deleted %v, finalizers %v, annotations %v, provider id %q, conditions %+v\n", c.Name,
			c.DeletionTimestamp, c.Finalizers, c.Annotations, c.Status.ProviderID, c.Status.Conditions,
		)
	}
	for _, n := range w.listNodes() {
		out += fmt.Sprintf(
			"Node %s, deleted %v, finalizers %v, taints %v, conditions %+v\n", n.Name, n.DeletionTimestamp, n.Finalizers,
			n.Spec.Taints, n.Status.Conditions,
		)
	}
	if calls := w.made(); len(calls) > 0 {
		out += "last calls: " + strings.Join(calls[max(0, len(calls)-20):], ", ") + "\n"
	}
	if w.process != nil {
		out += w.process.Tail()
	}
	return out
}
