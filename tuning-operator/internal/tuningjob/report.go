// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/events"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/tuning-operator/internal/observe"
)

// report writes the status at the end of a pass if it has changed, and then publishes the change. failed is the error
// of the pass. It returns failed, or the error of the write if failed is nil.
func (r *Reconciler) report(ctx context.Context, s *scope, failed error) error {
	if failed == nil {
		s.tj.Status.ObservedGeneration = s.tj.Generation
	}
	wrote, err := patch.Status(ctx, r.client, s.before, s.tj)
	if wrote {
		r.publish(s.before, s.tj)
	}
	if failed == nil {
		failed = client.IgnoreNotFound(err)
	}
	if failed == nil { // the status holds how the departed pods ended
		r.departed.drop(s.key, s.departed)
	}
	return failed
}

// publish publishes an event when the reason of Ready has changed, and updates the metrics.
func (r *Reconciler) publish(before, after *tuningv1alpha1.TuningJob) {
	was, is := conditions.Get(before, conditions.Ready), conditions.Get(after, conditions.Ready)
	if is != nil && (was == nil || was.Reason != is.Reason) {
		kind := corev1.EventTypeNormal
		if conditions.IsTrue(after, conditions.Stalled) || is.Reason == tuningv1alpha1.ReasonRetrying {
			kind = corev1.EventTypeWarning
		}
		events.Publish(r.events, after, kind, is.Reason, is.Message)
	}
	r.metrics.observe(before, after)
}

// setVerdict sets all conditions from the state of the Job.
func setVerdict(tj *tuningv1alpha1.TuningJob, state observe.State) {
	switch state.Verdict {
	case observe.Succeeded:
		conditions.MarkReady(tj, state.Reason, state.Message)
		setOutcome(tj, metav1.ConditionFalse, metav1.ConditionTrue, metav1.ConditionFalse, state.Reason, state.Message)
	case observe.Failed:
		conditions.MarkStalled(tj, state.Reason, state.Message)
		setOutcome(tj, metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, state.Reason, state.Message)
	case observe.Stuck:
		conditions.MarkStalled(tj, state.Reason, state.Message)
		setOutcome(tj, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionUnknown, state.Reason, state.Message)
	case observe.Running:
		conditions.MarkReconciling(tj, state.Reason, state.Message)
		setOutcome(tj, metav1.ConditionTrue, metav1.ConditionUnknown, metav1.ConditionUnknown, state.Reason, state.Message)
	default:
		wait(tj, state.Reason, state.Message)
	}
}

// wait sets the conditions of a TuningJob that continues without a person, and of which no container runs.
func wait(tj *tuningv1alpha1.TuningJob, reason, text string) {
	conditions.MarkReconciling(tj, reason, text)
	setOutcome(tj, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionUnknown, reason, text)
}

// stall sets the conditions of a TuningJob that has no Job and needs a person to act. It ends the pass.
func stall(s *scope, reason, text string) flow.Result {
	conditions.MarkStalled(s.tj, reason, text)
	setOutcome(s.tj, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionUnknown, reason, text)
	return flow.Stop()
}

func setOutcome(tj *tuningv1alpha1.TuningJob, running, succeeded, failed metav1.ConditionStatus, reason, text string) {
	conditions.Set(tj, tuningv1alpha1.ConditionRunning, running, reason, text)
	conditions.Set(tj, tuningv1alpha1.ConditionSucceeded, succeeded, reason, text)
	conditions.Set(tj, tuningv1alpha1.ConditionFailed, failed, reason, text)
}
