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

// request asks the planner what the controller asks it for a Workspace that has no nodes yet and of which nothing has failed; a test
// holds the two together.
func request(s *subject, st stage, region string) plan.Request {
	w := s.workspace
	r := plan.Request{
		Mode: plan.ModeInference, InstanceTypes: w.Resource.InstanceTypes, Region: region,
		InferenceConfig: s.inferenceConfig, TrainingConfig: s.trainingConfig,
	}
	if len(r.InstanceTypes) == 0 && w.Resource.InstanceType != "" {
		r.InstanceTypes = []string{w.Resource.InstanceType}
	}
	for _, t := range w.Resource.CapacityTypes {
		r.CapacityTypes = append(r.CapacityTypes, string(t))
	}
	if w.Resource.Count != nil {
		n := int(*w.Resource.Count)
		r.Count = &n
	}
	if p := w.Resource.Partition; p != nil {
		r.MIGProfile = p.Profile
		if p.Count != nil {
			r.Slices = int(*p.Count)
		}
	}
	switch {
	case st == stageTune:
		r.Mode, r.Preset, r.Method = plan.ModeTuning, presetName(w.Tuning.Preset), strings.ToLower(string(w.Tuning.Method))
	case w.Inference != nil && w.Inference.Template != nil:
		r.Mode = plan.ModeTemplate
	default:
		r.Preset = presetName(servedPreset(w))
		r.Adapters, r.AdapterRank = adapters(w), adapterRank(w, s.trainingConfig)
	}
	return r
}

// servedPreset is the inference section's, or the one that is tuned.
func servedPreset(w *kaitov1alpha1.Workspace) *kaitov1alpha1.PresetSpec {
	switch {
	case w.Inference != nil:
		return w.Inference.Preset
	case w.Tuning != nil:
		return w.Tuning.Preset
	}
	return nil
}

func presetName(p *kaitov1alpha1.PresetSpec) string {
	if p == nil {
		return ""
	}
	return p.Name
}

func adapters(w *kaitov1alpha1.Workspace) int {
	n := 0
	if w.Tuning != nil {
		n++
	}
	if w.Inference != nil {
		n += len(w.Inference.Adapters)
	}
	return n
}

// The ranks that the controller counts with: what is tuned by default, what covers nearly all published adapters, and those that
// vLLM takes (MaxLoRARanks).
const (
	tunedRank   = 16
	foreignRank = 64
)

func engineRanks() []int { return []int{16, 32, 64, 128, 256, 320, 512} }

func adapterRank(w *kaitov1alpha1.Workspace, trainingConfig string) int {
	want := 0
	if w.Tuning != nil {
		want = max(tunedRank, configuredRank(trainingConfig))
	}
	if w.Inference != nil && len(w.Inference.Adapters) > 0 {
		want = max(want, foreignRank)
	}
	if want == 0 {
		return 0
	}
	for _, rank := range engineRanks() {
		if rank >= want {
			return rank
		}
	}
	return want
}

// configuredRank is LoraConfig.r of the training config; what is wrong with it the planner says.
func configuredRank(text string) int {
	var document struct {
		LoraConfig     struct{ R int } `json:"LoraConfig"`
		TrainingConfig struct {
			LoraConfig struct{ R int } `json:"LoraConfig"`
		} `json:"training_config"`
	}
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return 0
	}
	return max(document.LoraConfig.R, document.TrainingConfig.LoraConfig.R)
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
