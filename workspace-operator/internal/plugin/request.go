// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/plan"
)

// stage is what nodes are wanted for, as the controller has it: a Workspace that tunes and serves is planned for both.
type stage string

const (
	stageTune  stage = "tune"
	stageServe stage = "serve"
)

// stages of a Workspace, in order.
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
	// notes are what the answer does not take into account.
	notes []string
}

// request asks the planner what the controller asks it for a Workspace that has no nodes yet and of which nothing has
// failed.
func request(s *subject, st stage, region string) plan.Request {
	return plan.ForWorkspace(s.workspace, st == stageTune, region, s.inferenceConfig, s.trainingConfig)
}

// setKeys lays values over a section of a YAML document: what a flag says wins over what a file says.
func setKeys(document, section string, values map[string]any) (string, error) {
	if len(values) == 0 {
		return document, nil
	}
	root := map[string]any{}
	if err := yaml.Unmarshal([]byte(document), &root); err != nil {
		return "", fmt.Errorf("reading the config that flags are laid over: %w", err)
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

// sameFlag: the engine takes a flag's name with dashes before it, and with underscores within.
func sameFlag(a, b string) bool {
	plain := func(s string) string { return strings.ReplaceAll(strings.TrimLeft(s, "-"), "_", "-") }
	return plain(a) == plain(b)
}
