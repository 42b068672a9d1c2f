// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Step is a named part of a pass over a scope S.
type Step[S any] struct {
	// Name names the step in logs and errors, in the -ing form: "planning".
	Name string
	// Run runs the step. It must not sleep or poll.
	Run func(context.Context, S) (Result, error)
}

// Result says how the pass continues after a step.
type Result struct {
	stop  bool
	after time.Duration
}

// Continue continues with the next step.
func Continue() Result { return Result{} }

// Stop ends the pass. A watch starts the next one.
func Stop() Result { return Result{stop: true} }

// StopUntil ends the pass and requests another one after a delay.
func StopUntil(after time.Duration) Result { return Result{stop: true, after: after} }

// ContinueUntil continues with the next step and requests another pass after a delay.
func ContinueUntil(after time.Duration) Result { return Result{after: after} }

// Run runs steps in order until one stops or fails. The shortest requested delay is used. Errors get the name of the
// step as a prefix, and wrap a reconcile.TerminalError if there is one.
func Run[S any](ctx context.Context, scope S, steps ...Step[S]) (reconcile.Result, error) {
	var soonest time.Duration
	for _, step := range steps {
		result, err := step.Run(ctx, scope)
		if err != nil {
			return reconcile.Result{}, fmt.Errorf("%s: %w", step.Name, err)
		}
		if result.after > 0 && (soonest == 0 || result.after < soonest) {
			soonest = result.after
		}
		if result.stop {
			break
		}
	}
	return reconcile.Result{RequeueAfter: soonest}, nil
}
