// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/api/embedded"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
	"kaito.sh/tuning-operator/internal/job"
)

// recheckInterval is the time after which a refusal is checked again that no watch reports the end of: a quota, a
// policy, a taken name.
const recheckInterval = 2 * time.Minute

// render builds the Job and the objects that it needs.
func (r *Reconciler) render(_ context.Context, s *scope) (flow.Result, error) {
	objects, err := job.Build(
		job.Input{TuningJob: s.tj, Model: s.model, Config: s.config, Claim: s.claim, Options: r.options.Job},
	)
	var invalid *embedded.InvalidError
	if errors.As(err, &invalid) {
		return stall(s, tuningv1alpha1.ReasonInvalidSpec, invalid.Error()), nil
	}
	if err != nil {
		return flow.Stop(), err
	}
	s.objects = objects
	return flow.Continue(), nil
}

// applyChildren applies the objects that the Job needs. It reads the current objects from the API server, because the
// cache holds only objects that this operator made.
func (r *Reconciler) applyChildren(ctx context.Context, s *scope) (flow.Result, error) {
	children := []client.Object{s.objects.Policy}
	if s.objects.Service != nil {
		children = append(children, s.objects.Service)
	}
	if s.objects.Claim != nil {
		children = append(children, s.objects.Claim)
	}
	for _, child := range children {
		_, err := patch.ApplyOwned(ctx, r.client, r.live, tuningv1alpha1.FieldManager, s.tj, child)
		switch {
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return flow.Stop(), nil
		case err != nil:
			return stallIfTaken(s, err)
		}
	}
	return flow.Continue(), nil
}

// stallIfTaken reports a *patch.TakenError in the status and ends the pass. It returns other errors.
func stallIfTaken(s *scope, err error) (flow.Result, error) {
	var taken *patch.TakenError
	if errors.As(err, &taken) {
		stall(s, tuningv1alpha1.ReasonNameTaken, taken.Error())
		return flow.StopUntil(recheckInterval), nil
	}
	return flow.Stop(), err
}
