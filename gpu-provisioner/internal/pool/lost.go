// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

const (
	// maxFailedPolls is the number of polls that may fail in a row before the pool's state decides. The delay between them
	// doubles from five seconds, so that it takes more than a minute.
	maxFailedPolls = 5
	// unreadAge is the age from which the pool's state may decide. ARM and the list of pools may not show a younger
	// operation yet.
	unreadAge = time.Minute
)

// pollLater records a failed poll and the time of the next one.
func (e *Engine) pollLater(ctx context.Context, op *Operation, err error) {
	failed, now := azure.Classify(err), e.Clock.Now()
	delay := max(failed.RetryAfter, 5*time.Second)
	if failed.Class != azure.ClassThrottle {
		op.FailedPolls++
		delay = max(failed.RetryAfter, min(5*time.Second<<min(op.FailedPolls-1, 4), time.Minute))
		log.FromContext(ctx).
			Error(err, "Reading the progress of an operation", "pool", op.Pool, "kind", op.Kind, "failedPolls", op.FailedPolls)
	}
	op.NotBefore = now.Add(delay)
	op.NextPoll = op.NotBefore
	if op.FailedPolls == maxFailedPolls {
		e.readPoolState(op)
	}
}

// readPoolState makes the pool's state decide how the operation ended, from the next read of the pool.
func (e *Engine) readPoolState(op *Operation) {
	op.UnknownSince = e.Clock.Now()
	e.Cache.Invalidate(op.Pool)
}

// finishFromPool ends an operation whose result cannot be read, if the view is new enough. found is the settled pool,
// or nil if it does not exist. It returns whether the operation has ended.
func (e *Engine) finishFromPool(ctx context.Context, name string, found *azure.Pool, view *azure.View) bool {
	op := e.operations[name]
	if op.UnknownSince.IsZero() || view.At.Before(op.UnknownSince) || view.At.Sub(op.Started) < unreadAge {
		return false
	}
	if found != nil && op.Kind == azure.OperationDeleteMachines && found.MachinesAt.Before(op.UnknownSince) {
		return false
	}
	op.Ended = view.At
	log.FromContext(ctx).Info("Deriving the result of an operation from its agent pool", "pool", name, "kind", op.Kind)
	e.finish(ctx, op, resultOf(op, found))
	e.operations[name] = op
	return true
}

// resultOf returns the error of an operation, derived from its settled agent pool. Nil: it succeeded.
func resultOf(op Operation, found *azure.Pool) *azure.Error {
	state := "the pool does not exist"
	if found != nil {
		state = "the pool is " + found.State
	}
	well := true
	switch op.Kind {
	case azure.OperationPut:
		well = found != nil && found.State == azure.StateSucceeded
	case azure.OperationDelete:
		well = found == nil
	case azure.OperationDeleteMachines:
		if found != nil &&
			slices.ContainsFunc(op.Machines, func(id string) bool { _, still := found.Machine(id); return still }) {
			well, state = false, "the pool still has machines that it was to delete"
		}
	}
	if well {
		return nil
	}
	return &azure.Error{
		Reason: karpenterv1alpha5.ReasonAzureError,
		Class:  azure.ClassTransient,
		Message: fmt.Sprintf(
			"Azure does not report the result of the %s of agent pool %s, and %s. See the cluster's activity log", op.Kind,
			op.Pool, state,
		),
		Remedy: "none: it is retried",
	}
}
