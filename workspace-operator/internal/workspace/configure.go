// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/flow"
	"kaito.sh/workspace-operator/internal/configfile"
)

// The operator reads a ConfigMap that a Workspace names. It watches only the metadata of all others.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch

// Keys of the ConfigMaps that a Workspace may name.
const (
	keyInferenceConfig = "inference_config.yaml"
	keyTrainingConfig  = "training_config.yaml"
)

// configurer reads the ConfigMaps that a Workspace names.
type configurer struct{ texts *configTexts }

func (c configurer) configure(ctx context.Context, s *scope) (flow.Result, error) {
	w := s.workspace
	var err error
	if w.Inference != nil && w.Inference.Config != "" {
		s.inferenceConfig, err = c.read(ctx, s, w.Inference.Config, keyInferenceConfig, "inference.config")
		if err != nil {
			return flow.Stop(), err
		}
	}
	if w.Tuning != nil && w.Tuning.Config != "" {
		s.trainingConfig, err = c.read(ctx, s, w.Tuning.Config, keyTrainingConfig, "tuning.config")
		if err != nil {
			return flow.Stop(), err
		}
	}
	return flow.Continue(), nil
}

func (c configurer) read(ctx context.Context, s *scope, name, key, field string) (string, error) {
	namespace := s.workspace.Namespace
	text, err := c.texts.read(ctx, client.ObjectKey{Namespace: namespace, Name: name}, key)
	names := fmt.Sprintf("%s names the ConfigMap %s/%s", field, namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		s.block(stalled(kaitov1alpha1.ReasonConfigMapNotFound, fmt.Sprintf(
			"%s, which does not exist: create it with the key %s, or remove the field", names, key)))
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, name, err)
	case !text.found:
		s.block(stalled(kaitov1alpha1.ReasonConfigMapNotFound, fmt.Sprintf("%s, which has no key %s: add it", names, key)))
	case text.bytes > configfile.MaxBytes:
		s.block(stalled(kaitov1alpha1.ReasonInvalidConfig, fmt.Sprintf(
			"%s, whose key %s has %d bytes: at most %d are allowed; shorten it", names, key, text.bytes, configfile.MaxBytes)))
	}
	return text.text, nil
}
