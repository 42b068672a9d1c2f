// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// refuse says why nothing fits, the closest candidate first.
func (q *question) refuse(candidates []Candidate, resting int, until time.Time) *Refusal {
	if resting > 0 {
		return &Refusal{
			Reason:     kaitov1alpha1.ReasonAttemptsExhausted,
			Until:      until,
			Candidates: candidates,
			Message: "every choice that fits has failed lately: " + list(
				candidates, 4,
			) + ". The next try is made at " + until.UTC().
				Format(time.RFC3339) +
				"; add sizes to resource.instanceTypes, or spot to resource.capacityTypes, to have more choices",
		}
	}
	other := func(c Candidate) bool { return c.Cause != CauseConfig }
	if len(candidates) > 0 && !slices.ContainsFunc(candidates, other) {
		return &Refusal{
			Reason: kaitov1alpha1.ReasonInvalidConfig, Candidates: candidates,
			Message: fmt.Sprintf("%s (on %s)", candidates[0].Rejected, candidates[0].InstanceType),
		}
	}
	what := "the pod template"
	if q.request.Mode != ModeTemplate {
		what = q.model.ID
	}
	remedy := "choose a size with more GPU memory, or leave resource.instanceType empty for the cheapest that fits"
	switch {
	case q.request.Mode == ModeTuning:
		remedy = "choose a size with more GPU memory, method qlora, or a shorter max_seq_length in the training config"
	case q.config.MaxModelLen > 0:
		remedy = "lower max-model-len, or choose a size with more GPU memory"
	case len(q.request.InstanceTypes) == 0 && len(q.request.Sizes) == 0:
		remedy = "raise resource.count, or choose a smaller or quantized model"
	}
	r := infeasible(fmt.Sprintf("%s fits no allowed choice: %s. Remedy: %s", what, list(candidates, 4), remedy))
	r.Candidates = candidates
	return r
}

// list names the first candidates with why they fell.
func list(candidates []Candidate, limit int) string {
	var parts []string
	for i, c := range candidates {
		if i == limit {
			parts = append(parts, fmt.Sprintf("and %d more", len(candidates)-limit))
			break
		}
		parts = append(parts, fmt.Sprintf("%s (%s): %s", c.InstanceType, c.CapacityType, c.Rejected))
	}
	return strings.Join(parts, "; ")
}

func (p *Plan) candidate(why *fall) Candidate {
	c := Candidate{
		InstanceType:   p.InstanceType,
		CapacityType:   p.CapacityType,
		Nodes:          p.Nodes,
		TensorParallel: p.TensorParallel,
		Memory:         p.Memory,
		MaxModelLen:    p.MaxModelLen,
		CostPerHour:    p.CostPerHour,
		Priced:         p.Priced,
	}
	if why != nil {
		c.Rejected, c.Cause = why.text, why.cause
	}
	return c
}
