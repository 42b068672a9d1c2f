// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/tuning"
)

// One TuningJob of the Workspace's name, applied, read back, and deleted with the Workspace.
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs,verbs=list;watch;create;patch;delete

// readJob reads the TuningJob before anything is placed: one that has failed needs no nodes any more, and they cost
// money until a person comes. They are asked for again when the TuningJob is deleted, which is how a run is repeated.
func (r *Reconciler) readJob(ctx context.Context, s *scope) (flow.Result, error) {
	if !s.tuning() || s.tunedAlready() || s.workspace.Tuning == nil {
		return flow.Continue(), nil
	}
	served, err := r.foreign.Served(ctx, &tuningv1alpha1.TuningJob{})
	if err != nil || !served {
		return flow.Continue(), err
	}
	if s.job, err = get(ctx, r.client, s.workspace, &tuningv1alpha1.TuningJob{}); err != nil || s.job == nil {
		return flow.Continue(), err
	}
	if metav1.IsControlledBy(s.job, s.workspace) && s.job.DeletionTimestamp == nil {
		s.failedTuning = tuning.Read(s.job, r.options.Limits.Acknowledge, s.now).Phase == tuning.Failed
	}
	return flow.Continue(), nil
}

// tune asks for the fine-tuning run when the nodes are usable, and carries up what becomes of it.
func (r *Reconciler) tune(ctx context.Context, s *scope) (flow.Result, error) {
	if !s.tuning() {
		return flow.Continue(), nil
	}
	if s.tunedAlready() {
		// What was tuned stays tuned, whatever becomes of the TuningJob.
		s.started = yes(kaitov1alpha1.ReasonTuned, "the TuningJob has succeeded")
		return flow.Continue(), nil
	}
	if s.released && !s.failedTuning {
		return flow.Continue(), nil
	}
	served, err := r.foreign.Served(ctx, &tuningv1alpha1.TuningJob{})
	if err != nil {
		return flow.Stop(), err
	}
	if !served {
		s.started = stuck(
			kaitov1alpha1.ReasonTuningOperatorMissing,
			"the cluster does not serve tuning.kaito.sh/v1alpha1 TuningJob: install the tuning-operator, and the Workspace goes on by itself",
		)
		return flow.Stop(), nil
	}
	job := s.job
	if job != nil && !metav1.IsControlledBy(job, s.workspace) {
		s.started = stuck(
			kaitov1alpha1.ReasonNameTaken,
			fmt.Sprintf(
				"TuningJob %s/%s belongs to somebody else: delete or rename it, or give the Workspace another name", job.Namespace,
				job.Name,
			),
		)
		return r.untilNameIsFree(), nil
	}
	if job == nil {
		if !s.resource.ok() || s.blocked != nil {
			return flow.Stop(), nil
		}
		return r.startTuning(ctx, s)
	}
	return s.readTuning(r, job), nil
}

func (r *Reconciler) startTuning(ctx context.Context, s *scope) (flow.Result, error) {
	want := tuning.Job(s.tuningInput())
	log.FromContext(ctx).Info("Starting a TuningJob")
	_, err := patch.Apply(ctx, r.client, kaitov1alpha1.FieldManager, want, nil)
	var taken *patch.TakenError
	if errors.As(err, &taken) {
		s.started = stuck(kaitov1alpha1.ReasonNameTaken, taken.Error())
		return r.untilNameIsFree(), nil
	}
	if err != nil {
		return flow.Stop(), err
	}
	s.noteJob("")
	s.started = no(kaitov1alpha1.ReasonPending, "the TuningJob is created and has not started")
	// Nobody announces that nobody answers.
	return flow.StopUntil(r.options.Limits.Acknowledge), nil
}

// tuningInput is what the TuningJob is made from.
func (s *scope) tuningInput() tuning.Input {
	p := s.planStatus()
	return tuning.Input{
		Workspace: s.workspace, Labels: placement.OwnerLabels(s.workspace), Owner: ownerOf(s.workspace),
		Revision: p.Revision, Nodes: p.Nodes, GPUsPerNode: p.GPUsPerNode, NodeSelector: s.nodeLabels(),
	}
}

func (s *scope) noteJob(progress string) {
	if s.workspace.Status.Tuning == nil {
		s.workspace.Status.Tuning = &kaitov1alpha1.TuningStatus{}
	}
	s.workspace.Status.Tuning.Job = s.workspace.Name
	if progress != "" {
		s.workspace.Status.Tuning.Progress = progress
	}
}

// readTuning carries up what the TuningJob tells, its reasons unchanged.
func (s *scope) readTuning(r *Reconciler, job *tuningv1alpha1.TuningJob) flow.Result {
	result := tuning.Read(job, r.options.Limits.Acknowledge, s.now)
	s.noteJob(result.Progress)
	switch result.Phase {
	case tuning.Succeeded:
		return s.tuned(result)
	case tuning.Failed, tuning.Ignored:
		s.started = stuck(result.Reason, result.Message)
	case tuning.Running:
		s.started = yes(kaitov1alpha1.ReasonTuning, "the TuningJob runs")
	default:
		s.started = no(kaitov1alpha1.ReasonPending, "the TuningJob is created and has not started")
	}
	if result.Stalled && result.Phase != tuning.Failed && result.Phase != tuning.Ignored {
		s.started = stuck(result.Reason, result.Message)
	}
	if result.Recheck > 0 {
		return flow.StopUntil(result.Recheck)
	}
	return flow.Stop()
}

// tuned takes over the output. Another pass at once plans for serving, from a status that has it.
func (s *scope) tuned(result tuning.Result) flow.Result {
	t := s.workspace.Status.Tuning
	t.Image, t.Digest = result.Image, result.Digest
	s.started = yes(kaitov1alpha1.ReasonTuned, "the TuningJob has succeeded")
	if s.workspace.Tuning.Output != nil && s.workspace.Tuning.Output.Image != "" && result.Image == "" {
		s.started = stuck(
			kaitov1alpha1.ReasonTuningFailed,
			"the TuningJob has succeeded and does not say which image it has pushed: see status.output of the TuningJob",
		)
		return flow.Stop()
	}
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.Tuned }, s.now)
	return flow.StopUntil(time.Nanosecond)
}

// nodeLabels are labels that all nodes of the Workspace have, and, where that can be said, no others.
func (s *scope) nodeLabels() map[string]string {
	if len(s.own) == 0 {
		return map[string]string{kaitov1alpha1.LabelWorkspaceUID: string(s.workspace.UID)}
	}
	out := map[string]string{}
	if selector := s.workspace.Resource.LabelSelector; selector != nil {
		maps.Copy(out, selector.MatchLabels)
	}
	if len(s.nodes) == 1 {
		if host := s.nodes[0].Labels[corev1.LabelHostname]; host != "" {
			out[corev1.LabelHostname] = host
		}
	}
	return out
}

func ownerOf(w *kaitov1alpha1.Workspace) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: kaitov1alpha1.GroupVersion.String(), Kind: "Workspace", Name: w.Name, UID: w.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
}
