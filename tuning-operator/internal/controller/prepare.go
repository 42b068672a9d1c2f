// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/training"
)

// configKey of the ConfigMap, as in KAITO.
const configKey = "training_config.yaml"

// resolve finds the model. A model that is named by its id needs no catalogue; if the catalogue has it, it brings its
// pinned revision.
func (r *Reconciler) resolve(_ context.Context, s *scope) (flow.Result, error) {
	if s.job != nil { // fixed when the Job was made
		return flow.Continue(), nil
	}
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
			fmt.Sprintf("spec.model.preset: %v; correct the name, or give spec.model.id", err),
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

// configure reads the training configuration once, when the Job is made: like the rest of what is trained it is fixed
// from then on.
func (r *Reconciler) configure(ctx context.Context, s *scope) (flow.Result, error) {
	if s.job != nil {
		return flow.Continue(), nil
	}
	text := ""
	if name := s.tj.Spec.Config; name != "" {
		cm := &corev1.ConfigMap{}
		err := r.live.Get(ctx, types.NamespacedName{Namespace: s.tj.Namespace, Name: name}, cm)
		if apierrors.IsNotFound(err) {
			return stall(
				s,
				tuningv1alpha1.ReasonConfigNotFound,
				fmt.Sprintf(
					"spec.config names the ConfigMap %q, which is not in namespace %s; create it, or remove spec.config for the defaults",
					name, s.tj.Namespace,
				),
			), nil
		}
		if err != nil {
			return flow.Stop(), fmt.Errorf("reading ConfigMap %s: %w", name, err)
		}
		var ok bool
		if text, ok = cm.Data[configKey]; !ok {
			return stall(
				s, tuningv1alpha1.ReasonConfigNotFound, fmt.Sprintf("ConfigMap %q has no key %s; add it", name, configKey),
			), nil
		}
	}
	overrides := map[string]map[string]any{}
	if o := s.tj.Spec.Overrides; o != nil && len(o.Raw) > 0 {
		if err := json.Unmarshal(o.Raw, &overrides); err != nil {
			return stall(
				s, tuningv1alpha1.ReasonConfigInvalid,
				fmt.Sprintf("spec.overrides must hold sections with keys, as training_config.yaml does: %v", err),
			), nil
		}
	}
	config, err := training.Parse(string(s.tj.Spec.Method), text, overrides)
	var bad *training.ConfigError
	switch {
	case errors.As(err, &bad) && bad.Contradiction:
		return stall(s, tuningv1alpha1.ReasonConfigContradiction, err.Error()), nil
	case err != nil:
		return stall(s, tuningv1alpha1.ReasonConfigInvalid, err.Error()), nil
	}
	if m, err := r.catalog.Model(s.model.ID); err == nil && m.Engine.TrustRemoteCode {
		if _, set := config.Model["trust_remote_code"]; !set {
			config.Model["trust_remote_code"] = true
		}
	}
	s.config = config
	return flow.Continue(), nil
}

// defaultClass marks the class that claims without one get.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// chooseClaim decides where checkpoints go when the TuningJob names no volume.
func (r *Reconciler) chooseClaim(ctx context.Context, tj *tuningv1alpha1.TuningJob) (job.Claim, error) {
	if !job.OwnClaim(tj) || r.options.CheckpointClass == ClassNone {
		return job.Claim{}, nil
	}
	if r.options.CheckpointClass != "" {
		return job.Claim{Make: true, Class: r.options.CheckpointClass}, nil
	}
	var classes storagev1.StorageClassList
	if err := r.live.List(ctx, &classes); err != nil {
		return job.Claim{}, fmt.Errorf("listing storage classes: %w", err)
	}
	for _, c := range classes.Items {
		if c.Annotations[defaultClass] == "true" {
			return job.Claim{Make: true}, nil
		}
	}
	return job.Claim{}, nil
}
