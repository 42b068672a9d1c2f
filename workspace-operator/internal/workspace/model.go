// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/lookup"
	"kaito.sh/workspace-operator/internal/plan"
)

// Models knows models that the catalogue does not have, from memory, and tells by an event when it has learned one.
type Models interface {
	Find(asker types.NamespacedName, name, pinned string) (*catalog.Model, *lookup.Refusal)
}

// presetOf is the name of the model that a stage is about; empty: of none.
func presetOf(w *kaitov1alpha1.Workspace, stage Stage) string {
	switch {
	case stage == StageTune:
		return plan.PresetName(tuningPreset(w))
	case w.Inference != nil && w.Inference.Template != nil:
		return ""
	}
	return plan.PresetName(plan.ServedPreset(w))
}

// findModels looks up the models of this stage and, since nothing is tuned that can't be served, of the next. false:
// one of them is not known, and the pass is blocked by the reason.
func (r *Reconciler) findModels(s *scope) (flow.Result, bool) {
	if r.models == nil {
		return flow.Continue(), true
	}
	stages := []Stage{s.stage}
	if s.stage == StageTune && s.serves() {
		stages = append(stages, StageServe)
	}
	s.models = map[string]*catalog.Model{}
	for _, stage := range stages {
		name := presetOf(s.workspace, stage)
		if name == "" {
			continue
		}
		model, refusal := r.models.Find(client.ObjectKeyFromObject(s.workspace), name, s.pinned(name))
		if refusal != nil {
			s.block(outcome{status: "False", reason: refusal.Reason, message: refusal.Message, stalled: refusal.Stalled})
			if refusal.Retry > 0 {
				return flow.ContinueUntil(refusal.Retry), false
			}
			return flow.Continue(), false
		}
		if model != nil {
			s.models[name] = model
		}
	}
	return flow.Continue(), true
}

// pinned is the commit that the model was planned with before; empty: it was not.
func (s *scope) pinned(name string) string {
	p := s.before.Status.Plan
	ref, err := catalog.ParseReference(name)
	if p == nil || err != nil || p.Model != ref.Name {
		return ""
	}
	return p.Revision
}

// lookups has the models read beside the reconciler. nil: there is nothing to look up, since the planner has no
// catalogue.
func lookups(
	mgr ctrl.Manager, options Options, planner Planner, clk clock.PassiveClock,
) (Models, source.Source, error) {
	p, ok := planner.(CatalogPlanner)
	if !ok {
		return nil, nil, nil
	}
	models := options.models(p.Catalog, clk)
	events := make(chan event.GenericEvent)
	models.OnResult(func(ctx context.Context, name types.NamespacedName) {
		w := &kaitov1alpha1.Workspace{}
		w.Name, w.Namespace = name.Name, name.Namespace
		select {
		case events <- event.GenericEvent{Object: w}:
		case <-ctx.Done():
		}
	})
	if err := mgr.Add(models); err != nil {
		return nil, nil, fmt.Errorf("adding the lookup of models: %w", err)
	}
	return models, source.Channel(events, &handler.EnqueueRequestForObject{}), nil
}
