// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"fmt"
	"slices"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// SpecError is a Workspace with fields that contradict each other in a way that the schema cannot refuse. The message
// names the field, the value and what to do.
type SpecError struct{ Message string }

func (e *SpecError) Error() string { return e.Message }

// AddAdapters adds the tuned adapter and the adapters of the inference section to an input. The error is a *SpecError
// or an *embedded.InvalidError.
func AddAdapters(w *kaitov1alpha1.Workspace, in *Input) error {
	if t := w.Tuning; t != nil && w.Status.Tuning != nil {
		tuned := Adapter{Name: w.Name, ChatTemplate: w.Status.Tuning.ChatTemplate}
		switch {
		case w.Status.Tuning.Image != "":
			tuned.Image = w.Status.Tuning.Image
			if t.Output != nil && t.Output.ImagePushSecret != "" {
				tuned.PullSecrets = []string{t.Output.ImagePushSecret}
			}
		case t.Output != nil && t.Output.VolumeSource != nil:
			volume, err := t.Output.VolumeSource.Decode("tuning.output.volumeSource")
			if err != nil {
				return err
			}
			tuned.Volume = volume
		}
		in.Tuned = tuned.Name
		in.Adapters = append(in.Adapters, tuned)
	}
	if w.Inference == nil {
		return nil
	}
	for i, a := range w.Inference.Adapters {
		adapter, err := adapter(i, a)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(in.Adapters, func(o Adapter) bool { return o.Name == adapter.Name }) ||
			adapter.Name == w.Name && in.Tuned == "" {
			return &SpecError{
				fmt.Sprintf(
					"inference.adapters[%d].source.name is %q, which is the name of another model that is served: rename it", i,
					adapter.Name,
				),
			}
		}
		in.Adapters = append(in.Adapters, adapter)
	}
	return nil
}

func adapter(i int, a kaitov1alpha1.AdapterSpec) (Adapter, error) {
	field := fmt.Sprintf("inference.adapters[%d]", i)
	switch {
	case a.Source == nil:
		return Adapter{}, &SpecError{field + ".source is needed: give it a name and an image or a volumeSource"}
	case a.Source.Image == "" && a.Source.VolumeSource == nil:
		return Adapter{}, &SpecError{
			field + ".source has neither image nor volumeSource: adapters come as one of the two",
		}
	case a.Strength != nil && !isOne(*a.Strength):
		return Adapter{}, &SpecError{
			fmt.Sprintf(
				"%s.strength is %s: the engine applies adapters at full strength only; remove the field, or scale lora_alpha in the adapter",
				field, *a.Strength,
			),
		}
	}
	name := a.Source.Name
	if name == "" {
		name = fmt.Sprintf("adapter-%d", i)
	}
	volume, err := a.Source.VolumeSource.Decode(field + ".source.volumeSource")
	if err != nil {
		return Adapter{}, err
	}
	return Adapter{Name: name, Image: a.Source.Image, PullSecrets: a.Source.ImagePullSecrets, Volume: volume}, nil
}

func isOne(strength string) bool {
	if strength == "" || strength[0] != '1' {
		return false
	}
	for _, c := range strength[1:] {
		if c != '.' && c != '0' {
			return false
		}
	}
	return true
}
