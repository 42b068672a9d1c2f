// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/tuning"
)

// One TuningJob of the Workspace's name is applied, read, and deleted with the Workspace.
// +kubebuilder:rbac:groups=tuning.kaito.sh,resources=tuningjobs,verbs=list;watch;create;patch;delete

// tuner creates the TuningJob when the nodes are usable, and reports its result.
type tuner struct {
	client client.Client
	// acknowledge is how long a TuningJob may stay without any condition.
	acknowledge time.Duration
	// nameRecheck is the time between two checks of a name that another owner's object has.
	nameRecheck time.Duration
}

func (t tuner) tune(ctx context.Context, s *scope) (flow.Result, error) {
	switch {
	case !s.tunes():
		return flow.Continue(), nil
	case s.tuned():
		s.started = succeeded(kaitov1alpha1.ReasonTuned, "the TuningJob has succeeded")
		return flow.Continue(), nil
	case s.released && !s.job.failed():
		return flow.Continue(), nil
	case !s.job.served:
		s.started = stalled(kaitov1alpha1.ReasonTuningOperatorMissing,
			"the cluster does not serve tuning.kaito.sh/v1alpha1 TuningJob: install the tuning-operator. The Workspace then "+
				"continues")
		return flow.Stop(), nil
	case s.job.object != nil && !s.job.ours:
		taken := &patch.TakenError{Kind: "TuningJob", Key: s.key()}
		s.started = stalled(kaitov1alpha1.ReasonNameTaken, taken.Error())
		return flow.StopUntil(t.nameRecheck), nil
	case s.job.object == nil && (!s.resource.ok() || s.blocked != nil):
		return flow.Stop(), nil
	case s.job.object == nil:
		return t.start(ctx, s)
	}
	return reportJob(s), nil
}

func (t tuner) start(ctx context.Context, s *scope) (flow.Result, error) {
	log.FromContext(ctx).Info("Starting a TuningJob")
	_, err := patch.Apply(ctx, t.client, kaitov1alpha1.FieldManager, tuning.Job(tuningInput(s)), nil)
	var taken *patch.TakenError
	if errors.As(err, &taken) {
		s.started = stalled(kaitov1alpha1.ReasonNameTaken, taken.Error())
		return flow.StopUntil(t.nameRecheck), nil
	}
	if err != nil {
		return flow.Stop(), fmt.Errorf("creating the TuningJob: %w", err)
	}
	noteJob(s, "")
	s.started = unfinished(kaitov1alpha1.ReasonPending, "the TuningJob is created and has not started")
	// No event says that no operator answers.
	return flow.StopUntil(t.acknowledge), nil
}

// tuningInput returns what the TuningJob is rendered from.
func tuningInput(s *scope) tuning.Input {
	p := s.planStatus()
	return tuning.Input{
		Workspace: s.workspace, Labels: placement.OwnerLabels(s.workspace), Owner: s.owner(),
		Revision: p.Revision, Nodes: p.Nodes, GPUsPerNode: p.GPUsPerNode, NodeSelector: s.nodeLabels(),
	}
}

func noteJob(s *scope, progress string) {
	status := &s.workspace.Status
	if status.Tuning == nil {
		status.Tuning = &kaitov1alpha1.TuningStatus{}
	}
	status.Tuning.Job = s.workspace.Name
	if progress != "" {
		status.Tuning.Progress = progress
	}
}

// reportJob copies what the TuningJob says, its reasons unchanged.
func reportJob(s *scope) flow.Result {
	result := s.job.result
	noteJob(s, result.Progress)
	switch {
	case result.Phase == tuning.Succeeded:
		return takeResult(s)
	case result.Stalled:
		s.started = stalled(result.Reason, result.Message)
	case result.Phase == tuning.Running:
		s.started = succeeded(kaitov1alpha1.ReasonTuning, "the TuningJob runs")
	default:
		s.started = unfinished(kaitov1alpha1.ReasonPending, "the TuningJob is created and has not started")
	}
	return flow.StopUntil(result.Recheck)
}

// takeResult copies the output. Another pass follows at once, and plans for serving from a status that has the output.
func takeResult(s *scope) flow.Result {
	status, result := s.workspace.Status.Tuning, s.job.result
	status.Image, status.Digest, status.ChatTemplate = result.Image, result.Digest, result.ChatTemplate
	if output := s.workspace.Tuning.Output; output != nil && output.Image != "" && result.Image == "" {
		s.started = stalled(kaitov1alpha1.ReasonTuningFailed,
			"the TuningJob has succeeded and does not say which image it has pushed: see status.output of the TuningJob")
		return flow.Stop()
	}
	s.started = succeeded(kaitov1alpha1.ReasonTuned, "the TuningJob has succeeded")
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.Tuned }, s.now)
	return flow.StopUntil(time.Nanosecond)
}
