// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"errors"
	"fmt"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/job"
)

// resolveModel finds the base model. A model that is named by its ID need not be in the catalogue. If it is, the
// catalogue supplies the pinned revision.
func (r *Reconciler) resolveModel(_ context.Context, s *scope) (flow.Result, error) {
	spec := s.tj.Spec.Model
	name := spec.ID
	if spec.Preset != "" {
		name = spec.Preset
	}
	m, err := r.catalog.Model(name)
	var unknown *catalog.UnknownModelError
	switch {
	case err == nil:
		s.model = job.Model{ID: m.ID, Revision: m.Revision}
	case errors.As(err, &unknown) && spec.Preset == "":
		s.model = job.Model{ID: spec.ID}
	default:
		return stall(
			s, tuningv1alpha1.ReasonModelUnknown,
			fmt.Sprintf("spec.model.preset: %v; correct the name, or set spec.model.id", err),
		), nil
	}
	if spec.Revision != "" {
		s.model.Revision = spec.Revision
	}
	if s.tj.Status.Output == nil {
		s.tj.Status.Output = &tuningv1alpha1.Output{BaseModel: s.model.ID}
	}
	return flow.Continue(), nil
}
