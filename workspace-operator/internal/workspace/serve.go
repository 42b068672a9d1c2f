// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
	"kaito.sh/workspace-operator/internal/watch"
)

// Pods say why a server does not answer.
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch

// server applies the server on the nodes, and reports whether it answers.
type server struct {
	client   client.Client
	kinds    placement.Kinds
	children serving.Children
	inputs   inputBuilder
	// nameRecheck is the time between two checks of a name that another owner's object has. That object carries no label
	// of a Workspace, so its deletion is not watched.
	nameRecheck time.Duration
}

func (sv server) serve(ctx context.Context, s *scope) (flow.Result, error) {
	if !s.serves() {
		s.inference = unfinished(kaitov1alpha1.ReasonNotNeeded, "tuning.serve is Never: no model is served")
		return flow.Continue(), nil
	}
	if s.released {
		s.inference = unfinished(kaitov1alpha1.ReasonScaledToZero, "resource.count is 0: no model is served")
		return flow.Continue(), stopServing(ctx, sv.client, s)
	}
	s.found.Prefer(s.several())
	if err := sv.apply(ctx, s); err != nil {
		return sv.explain(s, err)
	}
	if s.found.Server == nil {
		s.inference = s.blockedOr(pending)
		return flow.Continue(), nil
	}
	return sv.report(ctx, s)
}

// apply applies the server where there is a plan and its nodes are usable. Otherwise it keeps the objects beside it.
func (sv server) apply(ctx context.Context, s *scope) error {
	if s.plan != nil && s.resource.ok() && s.blocked == nil {
		in, err := sv.inputs.build(s)
		if err != nil {
			return err
		}
		if s.found, err = sv.children.Apply(ctx, in, s.found); err != nil {
			return err
		}
	} else if err := sv.children.Keep(ctx, surroundings(s), s.found); err != nil {
		return err
	}
	if s.found.Server == nil {
		return nil
	}
	return sv.applyPool(ctx, s)
}

func (sv server) applyPool(ctx context.Context, s *scope) error {
	served, err := sv.kinds.Served(ctx, serving.PoolMetadata())
	if err != nil || !served {
		return err // all Workspaces are enqueued when the kind is served
	}
	in := surroundings(s)
	if in.Picker, err = serving.PickerOf(s.workspace); err != nil {
		return err
	}
	return sv.children.ApplyPool(ctx, in)
}

// explain turns errors that a person must act on into an outcome. All others are retried.
func (sv server) explain(s *scope, err error) (flow.Result, error) {
	var taken *patch.TakenError
	var contradiction *serving.SpecError
	var invalid *embedded.InvalidError
	switch {
	case errors.As(err, &taken):
		s.inference = stalled(kaitov1alpha1.ReasonNameTaken, taken.Error())
		return flow.StopUntil(sv.nameRecheck), nil
	case errors.As(err, &contradiction):
		s.inference = stalled(kaitov1alpha1.ReasonInvalidSpec, contradiction.Message)
		return flow.Stop(), nil
	case errors.As(err, &invalid):
		s.inference = stalled(kaitov1alpha1.ReasonInvalidSpec, invalid.Error())
		return flow.Stop(), nil
	case apierrors.IsInvalid(err):
		s.inference = stalled(kaitov1alpha1.ReasonInvalidSpec, "the API server refuses the workload: "+err.Error())
		return flow.Stop(), nil
	case apierrors.IsForbidden(err):
		f := serving.Refused(err.Error())
		s.inference = unfinished(f.Reason, f.Message)
	}
	return flow.Stop(), err
}

// report says whether the server answers, and why not.
func (sv server) report(ctx context.Context, s *scope) (flow.Result, error) {
	endpoint := serving.Endpoint(s.workspace)
	s.workspace.Status.Endpoint = endpoint
	if s.found.Server.Answers {
		s.inference = succeeded(kaitov1alpha1.ReasonReady, "the engine answers at "+endpoint)
		if m := s.before.Status.Milestones; m == nil || m.EngineReady == nil {
			return flow.Continue(), sv.recordTimes(ctx, s)
		}
		return flow.Continue(), nil
	}
	s.inference = unfinished(kaitov1alpha1.ReasonStarting, "the engine starts")
	pods, err := sv.pods(ctx, s)
	if err != nil {
		return flow.Stop(), err
	}
	failure, recheck := serving.PodFailure(pods, sv.inputs.engine.LogTexts(), s.now)
	if (failure == nil || failure.Reason == kaitov1alpha1.ReasonUnschedulable) && s.found.Server.Failure != nil {
		failure = s.found.Server.Failure
	}
	// While nodes are missing it is expected that a pod fits no node.
	if failure != nil && (s.resource.ok() || failure.Reason != kaitov1alpha1.ReasonUnschedulable) {
		s.inference = unfinished(failure.Reason, failure.Message)
		s.inference.stalled = serving.NeedsPerson(failure.Reason)
	}
	return flow.ContinueUntil(recheck), nil
}

func (sv server) pods(ctx context.Context, s *scope) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	err := sv.client.List(ctx, list, client.InNamespace(s.workspace.Namespace),
		client.MatchingFields{watch.ByOwnerUID: string(s.workspace.UID)},
		client.MatchingLabels{serving.LabelComponent: serving.ComponentInference})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of the server: %w", err)
	}
	return list.Items, nil
}

// recordTimes records once when the images were pulled, when the weights were fetched, and when the engine answered.
func (sv server) recordTimes(ctx context.Context, s *scope) error {
	pods, err := sv.pods(ctx, s)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			if c.Name == serving.ContainerEngine && c.State.Running != nil {
				s.milestone(
					func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.ImagePulled }, c.State.Running.StartedAt.Time)
			}
		}
		for _, c := range pod.Status.InitContainerStatuses {
			if c.State.Terminated != nil {
				s.milestone(
					func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.WeightsReady }, c.State.Terminated.FinishedAt.Time)
			}
		}
	}
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.EngineReady }, s.now)
	return nil
}

// stopServing deletes the server. The Service stays, so that its address stays the same.
func stopServing(ctx context.Context, c client.Writer, s *scope) error {
	s.workspace.Status.Endpoint = ""
	if err := serving.Remove(ctx, c, s.workspace, s.found.Server); err != nil {
		return err
	}
	return serving.Remove(ctx, c, s.workspace, s.found.Other)
}
