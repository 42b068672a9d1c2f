// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/plan"
)

// stage is the purpose of nodes, as in the controller: a Workspace that tunes and serves has a plan for each stage.
type stage string

const (
	stageTune  stage = "tune"
	stageServe stage = "serve"
)

// stages returns the stages of a Workspace in order.
func stages(w *kaitov1alpha1.Workspace) []stage {
	switch {
	case w.Tuning == nil:
		return []stage{stageServe}
	case w.Tuning.Serve == kaitov1alpha1.ServeNever:
		return []stage{stageTune}
	}
	return []stage{stageTune, stageServe}
}

// subject is a Workspace with the texts of the ConfigMaps that it names.
type subject struct {
	workspace                       *kaitov1alpha1.Workspace
	inferenceConfig, trainingConfig string
	// notes name inputs that the report does not consider.
	notes []string
}

// request returns the controller's request for a Workspace without nodes and without failed attempts.
func request(s *subject, st stage, region string) plan.Request {
	return plan.ForWorkspace(s.workspace, st == stageTune, region, s.inferenceConfig, s.trainingConfig)
}

// setKeys sets values in a section of a YAML document, so that a flag overrides the file.
func setKeys(document, section string, values map[string]any) (string, error) {
	if len(values) == 0 {
		return document, nil
	}
	root := map[string]any{}
	if err := yaml.Unmarshal([]byte(document), &root); err != nil {
		return "", fmt.Errorf("reading the config that flags override: %w", err)
	}
	if root == nil {
		root = map[string]any{}
	}
	within := root
	if inner, ok := root["training_config"].(map[string]any); ok {
		within = inner
	}
	keys, ok := within[section].(map[string]any)
	if !ok {
		keys = map[string]any{}
		within[section] = keys
	}
	for k, v := range values {
		for other := range keys {
			if sameFlag(other, k) {
				delete(keys, other)
			}
		}
		keys[k] = v
	}
	text, err := yaml.Marshal(root)
	return string(text), err
}

// sameFlag reports whether two names are the same engine flag. The engine accepts leading dashes and underscores.
func sameFlag(a, b string) bool {
	plain := func(s string) string { return strings.ReplaceAll(strings.TrimLeft(s, "-"), "_", "-") }
	return plain(a) == plain(b)
}
