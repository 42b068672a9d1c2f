// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/gpu-provisioner/internal/azure"
)

const (
	// maxFailedPolls is how many looks at an operation may fail in a row before the pool's own state decides. With the
	// delay between them, which doubles from five seconds, that is more than a minute.
	maxFailedPolls = 5
	// unreadAge is the age at which an operation that cannot be read may be over. A younger one may be so new that ARM,
	// and the list of pools, do not show it yet.
	unreadAge = time.Minute
)

// pollLater notes a look that failed, and when to look again.
func (e *Engine) pollLater(ctx context.Context, op *Operation, err error) {
	failed, now := azure.Classify(err), e.Clock.Now()
	delay := max(failed.RetryAfter, 5*time.Second)
	if failed.Class != azure.ClassThrottle {
		op.FailedPolls++
		delay = max(failed.RetryAfter, min(5*time.Second<<min(op.FailedPolls-1, 4), time.Minute))
		log.FromContext(ctx).
			Error(err, "Looking at an operation", "pool", op.Pool, "kind", op.Kind, "failedPolls", op.FailedPolls)
	}
	op.NotBefore = now.Add(delay)
	op.NextPoll = op.NotBefore
	if op.FailedPolls == maxFailedPolls {
		e.readPoolState(op)
	}
}

// unread notes that Azure does not tell how an operation ends. Its pool's state will: it is read again.
func (e *Engine) readPoolState(op *Operation) {
	op.UnknownSince = e.Clock.Now()
	e.Cache.Invalidate(op.Pool)
}

// finishFromPool ends an operation that cannot be read when the view, which shows the pool at rest or no more, is young
// enough to tell; found is nil when the list of pools lacks the pool. It says whether the operation is over.
func (e *Engine) finishFromPool(ctx context.Context, name string, found *azure.Pool, view *azure.View) bool {
	op := e.operations[name]
	if op.UnknownSince.IsZero() || view.At.Before(op.UnknownSince) || view.At.Sub(op.Started) < unreadAge {
		return false
	}
	if found != nil && op.Kind == azure.OperationDeleteMachines && found.MachinesAt.Before(op.UnknownSince) {
		return false
	}
	op.Ended = view.At
	log.FromContext(ctx).Info("Taking the result of an operation from its agent pool", "pool", name, "kind", op.Kind)
	e.finish(ctx, op, resultOf(op, found))
	e.operations[name] = op
	return true
}

// resultOf reads from an agent pool at rest how an operation has ended; nil: well.
func resultOf(op Operation, found *azure.Pool) *azure.Error {
	state := "the pool is not there"
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
			well, state = false, "machines that it was to delete are still there"
		}
	}
	if well {
		return nil
	}
	return &azure.Error{
		Reason: azure.ReasonAzureError,
		Class:  azure.ClassTransient,
		Message: fmt.Sprintf(
			"Azure does not tell how the %s of agent pool %s ended, and %s; the cluster's activity log may have it", op.Kind,
			op.Pool, state,
		),
		Remedy: "none: retried",
	}
}
