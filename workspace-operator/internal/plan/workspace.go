// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"

	"sigs.k8s.io/yaml"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/configfile"
)

// ForWorkspace is what is asked for a Workspace that has no nodes yet and of which nothing has failed, for its tuning
// or for its serving; the configs are the texts of the ConfigMaps that it names.
func ForWorkspace(w *kaitov1alpha1.Workspace, tuning bool, region, inferenceConfig, trainingConfig string) Request {
	r := Request{
		Mode: ModeInference, InstanceTypes: w.Resource.InstanceTypes, Region: region,
		InferenceConfig: inferenceConfig, TrainingConfig: trainingConfig,
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
	case tuning:
		r.Mode, r.Preset = ModeTuning, PresetName(w.Tuning.Preset)
		r.Method = strings.ToLower(string(w.Tuning.Method))
		if r.Method == "" {
			r.Method = string(kaitov1alpha1.MethodLora)
		}
	case w.Inference != nil && w.Inference.Template != nil:
		r.Mode = ModeTemplate
	default:
		r.Preset = PresetName(ServedPreset(w))
		r.Adapters, r.AdapterRank = adapterCount(w), adapterRank(w, trainingConfig)
	}
	return r
}

// ServedPreset is the inference section's, or the one that was tuned.
func ServedPreset(w *kaitov1alpha1.Workspace) *kaitov1alpha1.PresetSpec {
	if w.Inference != nil {
		return w.Inference.Preset
	}
	if w.Tuning != nil {
		return w.Tuning.Preset
	}
	return nil
}

// PresetName is empty where there is no preset.
func PresetName(p *kaitov1alpha1.PresetSpec) string {
	if p == nil {
		return ""
	}
	return p.Name
}

func adapterCount(w *kaitov1alpha1.Workspace) int {
	n := 0
	if w.Tuning != nil {
		n++
	}
	if w.Inference != nil {
		n += len(w.Inference.Adapters)
	}
	return n
}

// foreignRank covers nearly all published adapters; what rank one has is known only once it is fetched.
const foreignRank = 64

// adapterRank is the highest rank of the adapters; 0 when there are none.
func adapterRank(w *kaitov1alpha1.Workspace, trainingConfig string) int {
	want := 0
	if w.Tuning != nil {
		want = tunedRank(trainingConfig)
	}
	if w.Inference != nil && len(w.Inference.Adapters) > 0 {
		want = max(want, foreignRank)
	}
	return want
}

// tunedRank is LoraConfig.r of the training config; what is wrong with it the planner says.
func tunedRank(text string) int {
	var document struct {
		LoraConfig     struct{ R int } `json:"LoraConfig"`
		TrainingConfig struct {
			LoraConfig struct{ R int } `json:"LoraConfig"`
		} `json:"training_config"`
	}
	if len(text) > configfile.MaxBytes || yaml.Unmarshal([]byte(text), &document) != nil {
		return defaultRank
	}
	return max(document.LoraConfig.R, document.TrainingConfig.LoraConfig.R, defaultRank)
}
