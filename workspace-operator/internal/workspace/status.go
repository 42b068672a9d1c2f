// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	recorder "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/api/reason"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/events"
	"kaito.sh/shared/recent"
	"kaito.sh/shared/statushold"
	"kaito.sh/workspace-operator/internal/placement"
)

// The status is what users and tools read.
// +kubebuilder:rbac:groups=kaito.sh,resources=workspaces/status,verbs=patch
// Steps and failures are published as events, too.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// statusWriter makes the status of a pass, and writes it once, when it has changed.
type statusWriter struct {
	client  client.Client
	events  recorder.EventRecorder
	metrics *Metrics
	holds   *statushold.Holds[*kaitov1alpha1.WorkspaceStatus]
}

// finish writes the status at the end of every pass, or returns for how long it is held back. A conflict needs only
// another pass.
func (sw statusWriter) finish(ctx context.Context, s *scope, failed error) (time.Duration, error) {
	if s.workspace.UID == "" || apierrors.IsConflict(failed) {
		return 0, failed
	}
	summarize(s, failed)
	roundTimes(s)
	uid, status := s.workspace.UID, s.workspace.Status
	if equality.Semantic.DeepEqual(s.stored, status) {
		sw.holds.Forget(uid)
		return 0, failed // the usual case, and cheaper to find than by rendering both
	}
	if wait := sw.holds.Hold(uid, status.DeepCopy(), failed == nil && onlyProgress(s)); wait > 0 {
		return wait, nil
	}
	if err := writeStatus(ctx, sw.client, s.before, s.workspace); err != nil {
		return 0, errors.Join(failed, err)
	}
	sw.publish(s)
	sw.metrics.record(s.stored, s.workspace)
	return 0, failed
}

// publish publishes the warnings of the pass, and the step that the Workspace has come to, where it is another
// than before. There are no more events of steps than writes of the status.
func (sw statusWriter) publish(s *scope) {
	for _, w := range s.warnings {
		events.Publish(sw.events, s.workspace, corev1.EventTypeWarning, w.reason, w.message)
	}
	was := meta.FindStatusCondition(s.stored.Conditions, conditions.Ready)
	is := conditions.Get(s.workspace, conditions.Ready)
	if is == nil || was != nil && was.Reason == is.Reason || conditions.IsTrue(s.workspace, conditions.Stalled) {
		return
	}
	events.Publish(sw.events, s.workspace, corev1.EventTypeNormal, is.Reason, is.Message)
}

// writeStatus fails with a conflict when another client has written since before was read.
func writeStatus(ctx context.Context, c client.Client, before, w *kaitov1alpha1.Workspace) error {
	change, err := recent.Locked(before.ResourceVersion, "/status", w.Status)
	if err == nil {
		err = c.Status().Patch(ctx, w, change)
	}
	if err != nil {
		return fmt.Errorf("writing the status of Workspace %s: %w", client.ObjectKeyFromObject(w), err)
	}
	return nil
}

// roundTimes rounds the times of conditions as the API server does, so that a remembered write equals what is read
// back.
func roundTimes(s *scope) {
	for i := range s.workspace.Status.Conditions {
		at := &s.workspace.Status.Conditions[i].LastTransitionTime
		*at = at.Rfc3339Copy()
	}
}

// verdict is what all stages come to.
type verdict struct {
	outcome
	ready bool
	state kaitov1alpha1.State
}

// reasonRetrying is Reconciling's reason after a pass that failed and is retried.
const reasonRetrying = "Retrying"

// summarize turns the outcomes into the status: all conditions every time, and one verdict. After a failed pass, what
// was not evaluated stays as it was.
func summarize(s *scope, failed error) {
	w := s.workspace
	if p := s.planStatus(); p != nil {
		w.Status.Plan = p.DeepCopy()
	}
	setCondition(s, kaitov1alpha1.ConditionResourceReady, s.resource, failed)
	if c := claimCondition(s); c != "" {
		setCondition(s, c, s.claims, failed)
	}
	if s.tunes() {
		setCondition(s, kaitov1alpha1.ConditionJobStarted, s.started, failed)
	}
	setCondition(s, kaitov1alpha1.ConditionInferenceReady, s.inference, failed)
	if failed != nil && s.resource.status == "" {
		// Nothing was evaluated: the verdict of the last pass stays, and the failure is reported beside it.
		conditions.True(w, conditions.Reconciling, reasonRetrying, failed.Error())
		return
	}
	countNodes(s)
	v := overall(s)
	if failed != nil {
		v.message = fmt.Sprintf("%s; the last try failed and is repeated: %v", v.message, failed)
	} else {
		w.Status.ObservedGeneration = w.Generation
	}
	w.Status.State = v.state
	announce(s, v)
}

func announce(s *scope, v verdict) {
	w := s.workspace
	switch {
	case v.ready:
		conditions.MarkReady(w, v.reason, v.message)
	case v.stalled:
		conditions.MarkStalled(w, v.reason, v.message)
		before := conditions.Get(s.before, conditions.Stalled)
		if before == nil || before.Status != metav1.ConditionTrue || before.Reason != v.reason {
			s.warn(v.reason, v.message)
		}
	default:
		conditions.MarkReconciling(w, v.reason, v.message)
	}
	status := metav1.ConditionFalse
	if v.ready {
		status = metav1.ConditionTrue
	}
	conditions.Set(w, kaitov1alpha1.ConditionWorkspaceReady, status, v.reason, v.message)
	conditions.Set(w, kaitov1alpha1.ConditionWorkspaceSucceeded, status, v.reason, v.message)
}

func setCondition(s *scope, conditionType string, o outcome, failed error) {
	switch {
	case o.status != "":
		conditions.Set(s.workspace, conditionType, o.status, o.reason, o.message)
	case failed == nil || conditions.Get(s.workspace, conditionType) == nil:
		conditions.Set(s.workspace, conditionType, pending.status, pending.reason, pending.message)
	}
}

// claimCondition returns MachineReady or NodeClaimReady, after the claims that exist, otherwise after the kind of new
// claims; empty where neither is known.
func claimCondition(s *scope) string {
	if len(s.states) > 0 {
		if s.states[0].Claim.Kind == (placement.Machines{}).Kind() {
			return kaitov1alpha1.ConditionMachineReady
		}
		return kaitov1alpha1.ConditionNodeClaimReady
	}
	if s.api == nil {
		return ""
	}
	return s.api.Condition()
}

// countNodes lists the nodes in use. A node that was in use and is not usable now stays, so that its use is remembered.
func countNodes(s *scope) {
	status := &s.workspace.Status
	var names []string
	for _, n := range append(slices.Clone(s.nodes), s.existing.Down...) {
		names = append(names, n.Name)
	}
	for _, state := range placement.Live(s.states) {
		name := state.Claim.NodeName
		if slices.Contains(s.before.Status.WorkerNodes, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	status.WorkerNodes = names
	switch p := s.planStatus(); {
	case s.released:
		status.TargetNodeCount = 0
	case s.placed && p != nil:
		status.TargetNodeCount = p.Nodes
	}
}

// overall returns the verdict: that of the first stage that has not ended.
func overall(s *scope) verdict {
	switch {
	case s.job.failed():
		return waits(s.started, kaitov1alpha1.StateTuning)
	case s.released && len(s.states) > 0:
		return verdict{outcome: unfinished(s.resource.reason, "the nodes are being released"), state: endState(s)}
	case s.released:
		return verdict{outcome: s.resource, ready: true, state: endState(s)}
	case s.blocked != nil:
		return waits(*s.blocked, kaitov1alpha1.StatePending)
	case !s.resource.ok():
		return waits(s.resource, kaitov1alpha1.StateProvisioning)
	case s.tunes() && !s.tuned() && s.stage == stageTune:
		o := s.started
		if o.reason == kaitov1alpha1.ReasonPending || o.ok() {
			o = unfinished(kaitov1alpha1.ReasonTuning, "the model is being tuned")
		}
		return waits(o, kaitov1alpha1.StateTuning)
	case !s.inference.ok():
		return waits(s.inference, kaitov1alpha1.StateStarting)
	}
	return verdict{outcome: s.inference, ready: true, state: kaitov1alpha1.StateRunning}
}

// waits returns the verdict of a stage that has not ended.
func waits(o outcome, state kaitov1alpha1.State) verdict {
	if o.stalled {
		state = kaitov1alpha1.StateFailed
	}
	return verdict{outcome: o, state: state}
}

func endState(s *scope) kaitov1alpha1.State {
	if s.tuned() && !s.serves() {
		return kaitov1alpha1.StateSucceeded
	}
	return kaitov1alpha1.StateStopped
}

// onlyProgress returns whether the status reports only progress: there was no verdict and is none now, no condition has
// got worse, nothing is worth an event, and no existing node was taken, which other Workspaces must see.
func onlyProgress(s *scope) bool {
	before, now := s.before, s.workspace
	switch c := conditions.Get(now, conditions.Reconciling); {
	case c == nil || !conditions.IsTrue(now, conditions.Reconciling),
		kaitov1alpha1.ReasonClasses[c.Reason] != reason.Progress:
		return false
	case conditions.IsTrue(before, conditions.Ready), conditions.IsTrue(before, conditions.Stalled):
		return false
	case len(s.warnings) > 0, len(s.own) > 0, len(before.Status.Attempts) != len(now.Status.Attempts):
		return false
	}
	for _, c := range before.Status.Conditions {
		if c.Type != conditions.Reconciling && conditions.IsTrue(before, c.Type) && !conditions.IsTrue(now, c.Type) {
			return false
		}
	}
	return true
}
