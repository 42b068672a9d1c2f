// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/serving"
)

// secretChecker checks that the Secrets which a Workspace names exist, before nodes are asked for. Afterwards the
// kubelet reports a missing Secret.
type secretChecker struct {
	secrets Secrets
	// recheck is the time between two checks: to watch Secrets would need the right to read all of them.
	recheck time.Duration
}

func (c secretChecker) check(ctx context.Context, s *scope) (flow.Result, error) {
	if s.blocked != nil || s.requested() || s.plan == nil || s.plan.Nodes == 0 {
		return flow.Continue(), nil
	}
	if wasOverBudget(s) {
		return flow.Continue(), nil // the pass that first met the budget has checked them
	}
	namespace := s.workspace.Namespace
	for _, name := range secretsOf(s.workspace) {
		exists, known, err := c.secrets.Exists(ctx, client.ObjectKey{Namespace: namespace, Name: name.secret})
		if errors.Is(err, ErrUnguarded) {
			s.block(stalled(kaitov1alpha1.ReasonSecretPolicyMissing, err.Error()))
			return flow.ContinueUntil(c.recheck), nil
		}
		if err != nil {
			return flow.Stop(), err
		}
		if known && !exists {
			s.block(stalled(kaitov1alpha1.ReasonSecretNotFound, fmt.Sprintf(
				"%s names the Secret %s/%s, which does not exist: create it. The Workspace then continues",
				name.field, namespace, name.secret)))
			return flow.ContinueUntil(c.recheck), nil
		}
	}
	return flow.Continue(), nil
}

// wasOverBudget returns whether the status says so before this pass.
func wasOverBudget(s *scope) bool {
	c := conditions.Get(s.before, conditions.Stalled)
	return c != nil && conditions.IsTrue(s.before, conditions.Stalled) && c.Reason == kaitov1alpha1.ReasonBudgetExceeded
}

// namedSecret is a Secret with the field that names it.
type namedSecret struct{ field, secret string }

// secretsOf returns the Secrets that a Workspace names, each once.
func secretsOf(w *kaitov1alpha1.Workspace) []namedSecret {
	var out []namedSecret
	add := func(field string, names ...string) {
		for _, name := range names {
			if name != "" && !slices.ContainsFunc(out, func(n namedSecret) bool { return n.secret == name }) {
				out = append(out, namedSecret{field: field, secret: name})
			}
		}
	}
	preset := func(field string, p *kaitov1alpha1.PresetSpec) {
		if p != nil && p.PresetOptions != nil {
			add(field+".presetOptions.modelAccessSecret", p.PresetOptions.ModelAccessSecret)
			add(field+".presetOptions.imagePullSecrets", p.PresetOptions.ImagePullSecrets...)
		}
	}
	add("metadata.annotations["+serving.AnnotationAPIKeys+"]", w.Annotations[serving.AnnotationAPIKeys])
	if i := w.Inference; i != nil {
		preset("inference.preset", i.Preset)
		for n, a := range i.Adapters {
			if a.Source != nil {
				add(fmt.Sprintf("inference.adapters[%d].source.imagePullSecrets", n), a.Source.ImagePullSecrets...)
			}
		}
	}
	if t := w.Tuning; t != nil {
		preset("tuning.preset", t.Preset)
		if t.Input != nil {
			add("tuning.input.imagePullSecrets", t.Input.ImagePullSecrets...)
		}
		if t.Output != nil {
			add("tuning.output.imagePushSecret", t.Output.ImagePushSecret)
		}
	}
	return out
}
