// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/lookup"
	"kaito.sh/workspace-operator/internal/plan"
)

// Models knows models that the catalogue does not have. It answers from memory, and enqueues the asker when it has
// learned more.
type Models interface {
	Find(asker types.NamespacedName, name, pinned string) (*catalog.Model, *lookup.Refusal)
}

// modelFinder looks up the models that the catalogue does not have.
type modelFinder struct {
	models Models // nil: the catalogue is all that there is
}

// find looks up the model of this stage and, because a model that cannot be served is not tuned, the model of the next.
func (m modelFinder) find(_ context.Context, s *scope) (flow.Result, error) {
	if m.models == nil || s.released || s.blocked != nil || s.holds {
		return flow.Continue(), nil
	}
	s.models = map[string]*catalog.Model{}
	for _, st := range stagesToPlan(s) {
		name := presetOf(s.workspace, st)
		if name == "" {
			continue
		}
		model, refusal := m.models.Find(s.key(), name, pinned(s, name))
		if refusal != nil {
			o := unfinished(refusal.Reason, refusal.Message)
			o.stalled = refusal.Stalled
			s.block(o)
			return flow.ContinueUntil(refusal.Retry), nil
		}
		if model != nil {
			s.models[name] = model
		}
	}
	return flow.Continue(), nil
}

// stagesToPlan returns the stages that must be feasible before nodes are rented.
func stagesToPlan(s *scope) []stage {
	if s.stage == stageTune && s.serves() {
		return []stage{stageTune, stageServe}
	}
	return []stage{s.stage}
}

// presetOf returns the name of the model of a stage; empty where it has none.
func presetOf(w *kaitov1alpha1.Workspace, st stage) string {
	switch {
	case st == stageTune:
		return plan.PresetName(tuningPreset(w))
	case w.Inference != nil && w.Inference.Template != nil:
		return ""
	}
	return plan.PresetName(plan.ServedPreset(w))
}

// pinned returns the commit that the model was planned with before; empty where it was not.
func pinned(s *scope, name string) string {
	p := s.before.Status.Plan
	ref, err := catalog.ParseReference(name)
	if p == nil || err != nil || p.Model != ref.Name {
		return ""
	}
	return p.Revision
}
