// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// stager validates the Workspace, and decides what nodes are wanted for and whether the plan in the status is still
// valid.
type stager struct{ drift *serving.Drift }

func (st stager) decide(_ context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	s.stage = stageServe
	if s.tunes() && !s.tuned() {
		s.stage = stageTune
	}
	// The Service, and labels of cluster-scoped objects, carry the name.
	if wrong := validation.IsDNS1035Label(w.Name); len(wrong) > 0 {
		s.block(stalled(kaitov1alpha1.ReasonInvalidSpec, fmt.Sprintf(
			"metadata.name %q can't be a Service's name: %s; create the Workspace under another name",
			w.Name, strings.Join(wrong, "; "))))
		return flow.Continue(), nil
	}
	if err := validate(w); err != nil {
		s.block(stalled(kaitov1alpha1.ReasonInvalidSpec, err.Error()))
	}
	done := s.tunes() && s.tuned() && !s.serves()
	if s.job.failed() || done || w.Resource.Count != nil && *w.Resource.Count == 0 {
		s.released = true
		return flow.Continue(), nil
	}
	s.resting = placement.Resting(w.Status.Attempts, s.now)
	s.holds = s.blocked == nil && planHolds(s) && !st.drifted(s)
	return flow.Continue(), nil
}

// validate refuses what could never be served, before anything is rented.
func validate(w *kaitov1alpha1.Workspace) error {
	if serving.Public(w) &&
		(w.Annotations[serving.AnnotationAPIKeys] == "" || w.Inference != nil && w.Inference.Template != nil) {
		return &serving.SpecError{Message: fmt.Sprintf(
			"metadata.annotations[%s] asks for an address outside the cluster, which is refused without API keys on the gateway: "+
				"name a Secret with the key \"keys\" in the annotation %s (a pod template has no gateway), or remove the annotation",
			serving.AnnotationLoadBalancer, serving.AnnotationAPIKeys)}
	}
	if _, err := serving.PickerOf(w); err != nil {
		return err
	}
	if err := decodes(w); err != nil {
		return err
	}
	return serving.AddAdapters(w, &serving.Input{})
}

// planHolds returns whether the plan in the status is still valid: the server that exists was made from the present
// inputs. Another release of the operator, with another catalogue, then neither plans again nor restarts a server.
func planHolds(s *scope) bool {
	p, server := s.workspace.Status.Plan, s.found.Server
	if s.stage != stageServe || server == nil || s.found.Service == nil || p == nil {
		return false
	}
	if server.Inputs() != inputsOf(s, p) || server.IsSet() != s.several() {
		return false
	}
	// A missing node that is not available any more needs another plan.
	_, rests := s.resting[s.choice()]
	return !rests || len(placement.Live(s.states)) >= int(p.Nodes)
}

// drifted returns whether another client has changed what was applied. It is then rendered and applied again.
func (st stager) drifted(s *scope) bool {
	return st.drift.Found(s.found.Server.Object) || st.drift.Found(s.found.Service)
}
