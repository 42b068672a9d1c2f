// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"

	"k8s.io/utils/ptr"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
)

// holdSuspended stops before anything is created while spec.suspend is true.
func (r *Reconciler) holdSuspended(_ context.Context, s *scope) (flow.Result, error) {
	if !suspended(s.tj) {
		return flow.Continue(), nil
	}
	wait(s.tj, tuningv1alpha1.ReasonSuspended, "spec.suspend is true: no Job is created until it is false")
	return flow.Stop(), nil
}

func suspended(tj *tuningv1alpha1.TuningJob) bool { return ptr.Deref(tj.Spec.Suspend, false) }
