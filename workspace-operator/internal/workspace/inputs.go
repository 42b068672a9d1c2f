// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/serving"
)

// inputsOf returns a hash of what the user and the plan have decided about the server. The order of the fields is part
// of the hash: releases compare it with what earlier ones stored.
func inputsOf(s *scope, p *kaitov1alpha1.PlanStatus) string {
	w := s.workspace
	resource := w.Resource
	resource.PreferredNodes = nil // they decide where a server starts, and nothing else
	inference, err := asDecoded(w.Inference)
	if err != nil {
		return ""
	}
	raw, err := json.Marshal(struct {
		Inference      *kaitov1alpha1.InferenceSpec
		Preset         *kaitov1alpha1.PresetSpec `json:",omitempty"`
		Tuned          *kaitov1alpha1.TuningStatus
		Config         string
		Resource       kaitov1alpha1.ResourceSpec
		InstanceType   string
		Nodes, GPUs    int32
		EngineRevision string
		APIKeys        string   `json:",omitempty"`
		Public         bool     `json:",omitempty"`
		OwnNodes       []string `json:",omitempty"`
	}{
		inference, tuningPreset(w), tunedOutput(w), s.inferenceConfig, resource, p.InstanceType, p.Nodes, p.GPUsPerNode,
		p.Revision, w.Annotations[serving.AnnotationAPIKeys], serving.Public(w), ownNames(s),
	})
	if err != nil {
		return "" // API types always marshal; an empty hash equals none, so the server is rendered again
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

func tuningPreset(w *kaitov1alpha1.Workspace) *kaitov1alpha1.PresetSpec {
	if w.Tuning == nil {
		return nil
	}
	return w.Tuning.Preset
}

// tunedOutput returns the part of the tuning status that the server depends on.
func tunedOutput(w *kaitov1alpha1.Workspace) *kaitov1alpha1.TuningStatus {
	if w.Status.Tuning == nil {
		return nil
	}
	return &kaitov1alpha1.TuningStatus{Image: w.Status.Tuning.Image, Digest: w.Status.Tuning.Digest}
}

// ownNames returns the names of the existing nodes that the server is bound to.
func ownNames(s *scope) []string {
	if len(s.own) == 0 {
		return s.existing.Names()
	}
	var names []string
	for _, n := range s.own {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

// asDecoded returns the inference section with its pod template and volume sources as their Go types marshal them. Two
// spellings of one template then have one hash, which is also the hash that releases with typed fields have stored.
func asDecoded(in *kaitov1alpha1.InferenceSpec) (*kaitov1alpha1.InferenceSpec, error) {
	if in == nil {
		return nil, nil
	}
	out := in.DeepCopy()
	if out.Template != nil {
		template, err := out.Template.Decode("inference.template")
		if err != nil {
			return nil, err
		}
		out.Template = embedded.NewPodTemplate(*template)
	}
	for _, a := range out.Adapters {
		if a.Source == nil || a.Source.VolumeSource == nil {
			continue
		}
		volume, err := a.Source.VolumeSource.Decode("inference.adapters[].source.volumeSource")
		if err != nil {
			return nil, err
		}
		a.Source.VolumeSource = embedded.NewVolumeSource(*volume)
	}
	return out, nil
}

// decodes refuses a Workspace that embeds a pod template or a volume source with a malformed field. The volume sources
// of adapters are decoded with the adapters. The error is an *embedded.InvalidError.
func decodes(w *kaitov1alpha1.Workspace) error {
	if _, err := serving.TemplateOf(w); err != nil {
		return err
	}
	t := w.Tuning
	if t == nil {
		return nil
	}
	if t.Input != nil {
		if _, err := t.Input.VolumeSource.Decode("tuning.input.volumeSource"); err != nil {
			return err
		}
	}
	if t.Output != nil {
		if _, err := t.Output.VolumeSource.Decode("tuning.output.volumeSource"); err != nil {
			return err
		}
	}
	return nil
}
