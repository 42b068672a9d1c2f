// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"strings"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// withChoices adds to a refusal which choices would work, with their prices: the cheapest one of all, and more nodes of
// the sizes that the user named.
func withChoices(err error, r Request, c *catalog.Catalog, e engine.Engine) error {
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != kaitov1alpha1.ReasonInfeasible {
		return err
	}
	var choices []string
	if len(r.InstanceTypes) > 0 || len(r.Sizes) > 0 || r.Count != nil || r.MIGProfile != "" {
		free := r
		free.InstanceTypes, free.Sizes, free.Count, free.MIGProfile, free.Slices = nil, nil, nil, "", 0
		choices = append(choices, choiceOf(free, c, e)...)
	}
	if len(r.InstanceTypes) > 0 && r.Count != nil {
		more := r
		more.Count = nil
		choices = append(choices, choiceOf(more, c, e)...)
	}
	if len(choices) > 0 {
		refusal.Message += ". What fits: " + strings.Join(choices, "; or ")
	}
	return refusal
}

// choiceOf describes the plan of a request; empty where it is refused, too.
func choiceOf(r Request, c *catalog.Catalog, e engine.Engine) []string {
	r.OnlyExisting, r.Existing, r.Keep, r.Resting = false, nil, nil, nil
	p, err := decide(r, c, e)
	if err != nil {
		return nil
	}
	text := p.InstanceType
	if p.Nodes > 1 {
		text = fmt.Sprintf("resource.count %d of %s", p.Nodes, p.InstanceType)
	}
	if p.Priced {
		text += fmt.Sprintf(" at $%.2f an hour", p.CostPerHour)
	}
	return []string{text + fmt.Sprintf(", with %d tokens", p.MaxModelLen)}
}
