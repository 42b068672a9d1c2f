// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/tuning-operator/internal/training"
)

// configKey is the key of the ConfigMap, as in KAITO.
const configKey = "training_config.yaml"

// readConfig reads the training configuration. It is fixed when the Job is created, like all inputs of the training.
func (r *Reconciler) readConfig(ctx context.Context, s *scope) (flow.Result, error) {
	text, problem, err := r.configText(ctx, s.tj)
	if err != nil {
		return flow.Stop(), err
	}
	if problem != "" {
		return stall(s, tuningv1alpha1.ReasonConfigNotFound, problem), nil
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
	var invalid *training.ConfigError
	switch {
	case errors.As(err, &invalid) && invalid.Contradiction:
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

// configText returns the text of the ConfigMap that spec.config names, or an empty text if it is unset. problem is the
// status message when the ConfigMap or its key does not exist.
func (r *Reconciler) configText(ctx context.Context, tj *tuningv1alpha1.TuningJob) (text, problem string, err error) {
	name := tj.Spec.Config
	if name == "" {
		return "", "", nil
	}
	cm := &corev1.ConfigMap{}
	err = r.live.Get(ctx, types.NamespacedName{Namespace: tj.Namespace, Name: name}, cm)
	if apierrors.IsNotFound(err) {
		return "", fmt.Sprintf(
			"spec.config: ConfigMap %q does not exist in namespace %s; create it, or remove spec.config to use the defaults",
			name, tj.Namespace,
		), nil
	}
	if err != nil {
		return "", "", fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	text, found := cm.Data[configKey]
	if !found {
		return "", fmt.Sprintf("spec.config: ConfigMap %q has no key %s; add the key", name, configKey), nil
	}
	return text, "", nil
}
