// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// makePlan decides what nodes are wanted and how the model is served, or that nothing is.
func (r *Reconciler) makePlan(_ context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	// The Service, and labels of cluster-scoped objects, carry the name.
	if wrong := validation.IsDNS1035Label(w.Name); len(wrong) > 0 {
		s.block(
			stuck(
				kaitov1alpha1.ReasonInvalidSpec,
				fmt.Sprintf(
					"metadata.name %q can't be a Service's name: %s; create the Workspace under another name", w.Name,
					strings.Join(wrong, "; "),
				),
			),
		)
		return flow.Continue(), nil
	}
	if err := validate(w); err != nil {
		s.block(stuck(kaitov1alpha1.ReasonInvalidSpec, err.Error()))
	}
	s.stage = StageServe
	if s.tuning() && !s.tunedAlready() {
		s.stage = StageTune
	}
	if s.failedTuning || s.tuning() && s.tunedAlready() && !s.serves() ||
		w.Resource.Count != nil && *w.Resource.Count == 0 {
		s.released = true
		return flow.Continue(), nil
	}
	if s.blocked != nil {
		return flow.Continue(), nil
	}
	resting := placement.Resting(w.Status.Attempts, s.now)
	if s.holds(resting) && !r.drifted(s) {
		return flow.Continue(), nil
	}
	if result, known := r.findModels(s); !known {
		return result, nil
	}
	plan, err := r.plans.get(w.UID, s.planKey(resting), func() (*Plan, error) {
		plan, err := r.planner.Plan(s.question(s.stage, resting))
		if err != nil || s.stage != StageTune || !s.serves() {
			return plan, err
		}
		// Tuning what can't be served afterwards would waste the rent of the nodes.
		_, err = r.planner.Plan(s.question(StageServe, resting))
		return plan, err
	})
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return s.refuse(refusal), nil
	case err != nil:
		return flow.Stop(), err
	}
	s.plan = plan
	s.milestone(func(m *kaitov1alpha1.Milestones) **metav1.Time { return &m.Planned }, s.now)
	return flow.Continue(), nil
}

// refuse blocks the pass, and says when a choice that rests is tried again.
func (s *scope) refuse(refusal *Refusal) flow.Result {
	until := refusal.Until.Sub(s.now)
	if refusal.Until.IsZero() || until > placement.Forever/2 {
		s.block(stuck(refusal.Reason, refusal.Message))
		return flow.Continue()
	}
	s.block(
		no(refusal.Reason, fmt.Sprintf("%s; tried again at %s", refusal.Message, refusal.Until.UTC().Format(time.RFC3339))),
	)
	return flow.ContinueUntil(max(until, time.Second))
}

func (s *scope) question(stage Stage, resting map[placement.Choice]time.Time) Question {
	q := Question{
		Workspace: s.workspace, Stage: stage,
		InferenceConfig: s.inferenceConfig, TrainingConfig: s.trainingConfig,
		Nodes: s.candidates, Resting: resting, Model: s.models[presetOf(s.workspace, stage)],
		Budgets: s.budgets,
	}
	live := s.live()
	if len(live) == 0 {
		return q
	}
	keep := placement.Choice{InstanceType: live[0].Claim.InstanceType, CapacityType: live[0].Claim.CapacityType}
	// What it has stays, unless more of it is needed and can't be had.
	if _, rests := resting[keep]; !rests || len(live) >= int(s.before.Status.TargetNodeCount) {
		q.Keep = &keep
	}
	return q
}

// planKey is equal for equal questions: what else a question holds is the catalogue, which does not change while the
// process runs.
func (s *scope) planKey(resting map[placement.Choice]time.Time) string {
	parts := []string{string(s.stage), fmt.Sprint(s.workspace.Generation), s.inferenceConfig, s.trainingConfig}
	if keep := s.question(s.stage, resting).Keep; keep != nil {
		parts = append(parts, "keep", keep.InstanceType, string(keep.CapacityType))
	}
	for _, stage := range []Stage{StageTune, StageServe} {
		if m := s.models[presetOf(s.workspace, stage)]; m != nil {
			parts = append(parts, "model", m.ID, m.Revision)
		}
	}
	for i := range s.budgets {
		parts = append(parts, "budget", string(s.budgets[i].UID), fmt.Sprint(s.budgets[i].Generation))
	}
	for _, choice := range slices.SortedFunc(maps.Keys(resting), func(a, b placement.Choice) int {
		return strings.Compare(a.InstanceType+string(a.CapacityType), b.InstanceType+string(b.CapacityType))
	}) {
		parts = append(parts, choice.InstanceType, string(choice.CapacityType), fmt.Sprint(resting[choice].Unix()))
	}
	for _, n := range s.candidates {
		allocatable := n.Status.Allocatable[kaitov1alpha1.ResourceNvidiaGPU]
		parts = append(parts, n.Name, n.Labels[corev1.LabelInstanceTypeStable], allocatable.String())
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// holds says whether the plan in the status still counts: the workload that is there was made from the present inputs.
// Another build of the operator, with another catalogue, then neither plans anew nor rolls anything.
func (s *scope) holds(resting map[placement.Choice]time.Time) bool {
	if s.stage != StageServe || s.server == nil || s.service == nil || s.workspace.Status.Plan == nil {
		return false
	}
	if s.server.inputs() != s.inputs(s.workspace.Status.Plan) || s.server.isSet() != s.several() {
		return false
	}
	// A node that is missing and can't be had any more asks for another plan.
	_, rests := resting[s.choice()]
	return !rests || len(s.live()) >= int(s.workspace.Status.Plan.Nodes)
}

// drifted says whether somebody has changed what was applied: it is rendered and applied again then.
func (r *Reconciler) drifted(s *scope) bool {
	return r.drift.found(s.server.object) || r.drift.found(s.service)
}

// inputs hashes what the user, and the plan, have decided about the workload.
func (s *scope) inputs(p *kaitov1alpha1.PlanStatus) string {
	w := s.workspace
	resource := w.Resource
	resource.PreferredNodes = nil // they decide where, and only at first
	inference, err := asDecoded(w.Inference)
	if err != nil {
		return ""
	}
	raw, err := json.Marshal(struct {
		Inference      *kaitov1alpha1.InferenceSpec
		Preset         *kaitov1alpha1.PresetSpec `json:",omitempty"`
		Tuned          *kaitov1alpha1.TuningStatus
		Config         string
		Resource       kaitov1alpha1.ResourceSpec
		InstanceType   string
		Nodes, GPUs    int32
		EngineRevision string
		APIKeys        string   `json:",omitempty"`
		Public         bool     `json:",omitempty"`
		OwnNodes       []string `json:",omitempty"`
	}{inference, tuningPreset(w), tunedOutput(w), s.inferenceConfig, resource, p.InstanceType, p.Nodes, p.GPUsPerNode, p.Revision, w.Annotations[AnnotationAPIKeys], public(w), s.ownNames()})
	if err != nil {
		return "" // API types always marshal; an empty hash equals none and renders anew
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// validate refuses, before anything is rented, what could never be served.
func validate(w *kaitov1alpha1.Workspace) error {
	if public(w) && (w.Annotations[AnnotationAPIKeys] == "" || w.Inference != nil && w.Inference.Template != nil) {
		return &specError{
			fmt.Sprintf(
				"metadata.annotations[%s] asks for an address outside the cluster, which is refused without API keys on the gateway: "+
					"name a Secret with the key \"keys\" in the annotation %s (a pod template has no gateway of ours), or remove the annotation",
				AnnotationLoadBalancer,
				AnnotationAPIKeys,
			),
		}
	}
	if _, err := picker(w); err != nil {
		return err
	}
	if err := decodes(w); err != nil {
		return err
	}
	return adapters(w, &serving.Input{})
}

func tuningPreset(w *kaitov1alpha1.Workspace) *kaitov1alpha1.PresetSpec {
	if w.Tuning == nil {
		return nil
	}
	return w.Tuning.Preset
}

// tunedOutput is the part of the tuning status that the workload shows.
func tunedOutput(w *kaitov1alpha1.Workspace) *kaitov1alpha1.TuningStatus {
	if w.Status.Tuning == nil {
		return nil
	}
	return &kaitov1alpha1.TuningStatus{Image: w.Status.Tuning.Image, Digest: w.Status.Tuning.Digest}
}

// live are the claims that are neither failed nor going.
func (s *scope) live() []placement.State {
	var out []placement.State
	for _, state := range s.states {
		if state.Phase != placement.Failed && state.Phase != placement.Lost && state.Phase != placement.Deleting {
			out = append(out, state)
		}
	}
	return out
}
