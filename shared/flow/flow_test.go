// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kaito.sh/shared/flow"
)

type trace struct{ ran []string }

func step(name string, result flow.Result, err error) flow.Step[*trace] {
	return flow.Step[*trace]{Name: name, Run: func(_ context.Context, t *trace) (flow.Result, error) {
		t.ran = append(t.ran, name)
		return result, err
	}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, tc := range []struct {
		name  string
		steps []flow.Step[*trace]
		ran   []string
		after time.Duration
		err   error
	}{
		{"runs every step when all continue", []flow.Step[*trace]{step("a", flow.Continue(), nil), step("b", flow.Continue(), nil)}, []string{"a", "b"}, 0, nil},
		{"runs nothing after a stop", []flow.Step[*trace]{step("a", flow.Stop(), nil), step("b", flow.Continue(), nil)}, []string{"a"}, 0, nil},
		{"runs nothing after an error", []flow.Step[*trace]{step("a", flow.Continue(), boom), step("b", flow.Continue(), nil)}, []string{"a"}, 0, boom},
		{"keeps the soonest deadline", []flow.Step[*trace]{step("a", flow.ContinueUntil(time.Minute), nil), step("b", flow.ContinueUntil(time.Second), nil), step("c", flow.StopUntil(time.Hour), nil)}, []string{"a", "b", "c"}, time.Second, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			scope := &trace{}
			result, err := flow.Run(context.Background(), scope, tc.steps...)
			require.ErrorIs(t, err, tc.err)
			assert.Equal(t, tc.ran, scope.ran)
			assert.Equal(t, tc.after, result.RequeueAfter)
		})
	}
}

func TestRunNamesTheStepAndKeepsTerminal(t *testing.T) {
	t.Parallel()
	_, err := flow.Run(
		context.Background(), &trace{},
		step("planning", flow.Continue(), reconcile.TerminalError(errors.New("no such size"))),
	)
	require.ErrorContains(t, err, "planning: ")
	assert.ErrorIs(t, err, reconcile.TerminalError(nil), "controller-runtime must not retry it")
}
