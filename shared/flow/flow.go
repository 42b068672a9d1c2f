// SPDX-License-Identifier: Apache-2.0

// Package flow runs a reconciler's steps over one shared scope. The list of steps is the reconciler's documentation.
package flow

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Step is one named part of a reconcile over a scope S.
type Step[S any] struct {
	// Name is what logs and errors call the step, in the -ing form: "planning".
	Name string
	// Run does the step. It never sleeps or polls.
	Run func(context.Context, S) (Result, error)
}

// Result says how the pass goes on after a step.
type Result struct {
	stop  bool
	after time.Duration
}

// Continue goes on with the next step.
func Continue() Result { return Result{} }

// Stop ends the pass: a watch wakes the next one.
func Stop() Result { return Result{stop: true} }

// StopUntil ends the pass and asks for another at a deadline that no watch will announce.
func StopUntil(after time.Duration) Result { return Result{stop: true, after: after} }

// ContinueUntil goes on, and asks for another pass at a deadline that no watch will announce.
func ContinueUntil(after time.Duration) Result { return Result{after: after} }

// Run runs steps in order until one stops or fails. The soonest deadline of those that ran wins.
// An error is named by its step; reconcile.TerminalError is kept terminal.
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
