// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/shared/api/embedded"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// templateOf decodes the pod template of a Workspace; nil where it has none. The error is an *embedded.InvalidError.
func templateOf(w *kaitov1alpha1.Workspace) (*corev1.PodTemplateSpec, error) {
	if w.Inference == nil {
		return nil, nil
	}
	return w.Inference.Template.Decode("inference.template")
}

// decodes refuses a Workspace that embeds a pod template or a volume source with a malformed field. The volume sources
// of adapters are decoded with the adapters. The error is an *embedded.InvalidError.
func decodes(w *kaitov1alpha1.Workspace) error {
	if _, err := templateOf(w); err != nil {
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
